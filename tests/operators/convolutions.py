"""Example models of the operators in `lipexact.onnx.operators.convolutions`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example, numbers

_STATISTICS = {"s": numbers(3), "b": numbers(3) + 0.5, "m": numbers(3) - 0.5, "v": numbers(3) ** 2}

EXAMPLES: dict[str, list[Example]] = {
    "Conv": [
        Example(
            "y = Conv (x, W, b)",
            x=(1, 2, 4, 3),
            constants={"W": numbers(3, 2, 2, 2), "b": numbers(3)},
        ),
        Example(
            "h = Conv <kernel_shape = [3, 2], pads = [1, 0, 2, 1], strides = [2, 1]> (x, W)\n "
            "y = Relu (h)",
            x=(1, 1, 4, 3),
            constants={"W": numbers(2, 1, 3, 2)},
        ),
        Example(
            "y = Conv <group = 2, dilations = [2], pads = [1, 1]> (x, W, b)",
            x=(1, 4, 5),
            constants={"W": numbers(4, 2, 3), "b": numbers(4)},
            opset=22,
        ),
        Example(
            'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 1]> (x, W)',
            x=(1, 1, 4, 3),
            constants={"W": numbers(1, 1, 3, 2)},
            opset=1,
            modern="y = Conv <pads = [0, 0, 1, 1], strides = [2, 1]> (x, W)",
        ),
        Example(
            'y = Conv <auto_pad = "SAME_LOWER", strides = [2, 1]> (x, W)',
            x=(1, 1, 4, 3),
            constants={"W": numbers(1, 1, 3, 2)},
            opset=11,
            modern="y = Conv <pads = [1, 1, 0, 0], strides = [2, 1]> (x, W)",
        ),
        Example(
            'y = Conv <auto_pad = "VALID"> (x, W)',
            x=(1, 3, 4),
            constants={"W": numbers(2, 3, 2)},
            modern="y = Conv (x, W)",
        ),
        Example("y = Conv (x, W)", x=(1, 2, 2, 3, 2), constants={"W": numbers(2, 2, 2, 2, 1)}),
    ],
    "ConvTranspose": [
        Example(
            "y = ConvTranspose (x, W, b)",
            x=(1, 2, 3, 2),
            constants={"W": numbers(2, 3, 2, 2), "b": numbers(3)},
        ),
        Example(
            "h = ConvTranspose <dilations = [2], output_padding = [1], pads = [1, 2], strides = "
            "[2]> (x, W)\n"
            "y = Relu (h)",
            x=(1, 2, 3),
            constants={"W": numbers(2, 2, 3)},
            opset=22,
        ),
        Example(
            "y = ConvTranspose <group = 2> (x, W, b)",
            x=(1, 4, 3),
            constants={
                "W": numbers(4, 2, 2),
                "b": numbers(4),
                "V": numbers(4, 2, 2)[:2],
                "U": numbers(4, 2, 2)[2:],
                "c": numbers(4, 1),
            },
            # The reference implementation takes no more than one channel in a group.
            modern="v, u = Split <axis = 1> (x)\n h = ConvTranspose (v, V)\n "
            "i = ConvTranspose (u, U)\n"
            "j = Concat <axis = 1> (h, i)\n y = Add (j, c)",
        ),
        Example(
            "y = ConvTranspose <kernel_shape = [3, 3], output_shape = [6, 7], strides = [2, 3]> "
            "(x, W)",
            x=(1, 1, 3, 2),
            constants={"W": numbers(1, 1, 3, 3)},
            modern="y = ConvTranspose <pads = [1, 0, 0, 0], output_padding = [0, 1], strides = "
            "[2, 3]> (x, W)",
        ),
        Example(
            'y = ConvTranspose <auto_pad = "SAME_UPPER", strides = [2, 1]> (x, W)',
            x=(1, 1, 3, 2),
            constants={"W": numbers(1, 2, 3, 3)},
            opset=1,
            modern="y = ConvTranspose <pads = [0, 1, 1, 1], strides = [2, 1]> (x, W)",
        ),
        Example(
            'y = ConvTranspose <auto_pad = "SAME_LOWER", strides = [2, 1]> (x, W)',
            x=(1, 1, 3, 2),
            constants={"W": numbers(1, 2, 3, 3)},
            opset=11,
            modern="y = ConvTranspose <pads = [1, 1, 0, 1], strides = [2, 1]> (x, W)",
        ),
        Example(
            'y = ConvTranspose <auto_pad = "VALID"> (x, W)',
            x=(1, 1, 3),
            constants={"W": numbers(1, 1, 2)},
        ),
    ],
    "BatchNormalization": [
        Example("y = BatchNormalization (x, s, b, m, v)", x=(1, 3, 2), constants=_STATISTICS),
        Example(
            "h = BatchNormalization <epsilon = 0.5, momentum = 0.5, training_mode = 0> (x, s, b, "
            "m, v)\n y = Relu (h)",
            x=(1, 3, 2, 1),
            constants=_STATISTICS,
        ),
        Example(
            "y = BatchNormalization (x, s, b, m, v)",
            x=(1, 3),
            constants=_STATISTICS,
            opset=9,
            # The reference implementation takes it for training.
            modern="y = BatchNormalization (x, s, b, m, v)",
        ),
        Example(
            "y = BatchNormalization <is_test = 1> (x, s, b, m, v)",
            x=(1, 3, 2),
            constants=_STATISTICS,
            opset=6,
            modern="y = BatchNormalization (x, s, b, m, v)",
        ),
        Example(
            "y = BatchNormalization <spatial = 0> (x, s, b, m, v)",
            x=(1, 1, 3),
            constants={name: array[None] for name, array in _STATISTICS.items()}
            | {"t": np.array([1, 3]), "u": np.array([1, 1, 3])},
            opset=7,
            modern="h = Reshape (x, t)\n i = BatchNormalization (h, s, b, m, v)\n "
            "y = Reshape (i, u)",
        ),
    ],
}
