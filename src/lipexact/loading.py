"""Loading: from what a user has to a :class:`.Network`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from lipexact.errors import OptionError
from lipexact.network import Network
from lipexact.onnx.reader import read_onnx


def load(
    model: str | os.PathLike[str] | Network | Any,
    *,
    input: str | None = None,  # noqa: A002 - what ONNX calls it
    output: str | None = None,
    fixed: Mapping[str, npt.ArrayLike] | None = None,
    drop_final: bool = False,
    batched: bool = True,
) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    model
        A path, an ``onnx.ModelProto``, or a :class:`.Network`, which is returned as it is.
    input
        The name of the input x; None for the only one that the output depends on and that is not
        fixed.
    output
        The name of the output, or of an inner tensor, which cuts the network there; None for the
        only output.
    fixed
        Constants for the other inputs, by name, of the shapes that the model declares, or flat, or
        without the batch axis.
    drop_final
        Whether to leave out the Softmax, LogSoftmax, Sigmoid, Tanh, Softplus, ArgMax or Hardmax
        that the output ends in: those are not piecewise linear.
    batched
        Whether the first axis of inputs with two or more is the batch axis, which is read as of
        length 1.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If the file is missing or corrupt, or has other inputs and outputs than these options say.
    UnsupportedOperatorError
        If it has an operator, attribute or opset that is not supported.
    """
    if isinstance(model, Network):
        if not (
            input is None
            and output is None
            and fixed is None
            and drop_final is False
            and batched is True
        ):
            raise OptionError(
                "the model is a Network already: "
                "input, output, fixed, drop_final and batched are for files"
            )
        return model
    if fixed is not None and not isinstance(fixed, Mapping):
        raise OptionError(
            f"fixed must be a dictionary of arrays by the names of inputs, not {fixed!r}"
        )
    for what, name in (("input", input), ("output", output)):
        if name is not None and not isinstance(name, str):
            raise OptionError(f"{what} must be the name of a tensor, not {name!r}")
    for what, choice in (("drop_final", drop_final), ("batched", batched)):
        if not isinstance(choice, bool):
            raise OptionError(f"{what} must be True or False, not {choice!r}")
    return read_onnx(
        model, input=input, output=output, fixed=fixed, drop_final=drop_final, batched=batched
    )
