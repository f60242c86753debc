"""Reading of ONNX models: the only package that knows shapes, batch axes and operators.

From a file to a network, in the order of :func:`~lipexact.onnx.reader.read_onnx`:

- ``files`` reads a model, and ``external`` the weights in other files;
- ``traversal``, ``outputs`` and ``inputs`` find the nodes between the input and the output;
- ``evaluation`` goes through them: ``folding`` computes constants, and ``registry`` finds the
  lowering of every other node in ``operators``, which share ``nodes``, ``tensors``, ``windows``;
- ``naming`` gives the nodes of the network unique names.

Limits stand in ``constants``, and the form of error messages in ``messages``.
"""

import lipexact.onnx.operators  # noqa: F401 - which registers them
from lipexact.onnx.reader import read_onnx
from lipexact.onnx.registry import supported_operators

__all__ = ["read_onnx", "supported_operators"]
