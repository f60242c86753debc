"""Example models of the operators in `lipexact.onnx.operators.pooling`."""

from __future__ import annotations

from tests.operators.example import Example, numbers

EXAMPLES: dict[str, list[Example]] = {
    "AveragePool": [
        Example(
            "y = AveragePool <kernel_shape = [2, 3], strides = [2, 1]> (x)", x=(1, 2, 4, 3), opset=1
        ),
        Example(
            "h = AveragePool <kernel_shape = [3], pads = [1, 1], strides = [2]> (x)\n y = Relu (h)",
            x=(1, 2, 5),
            opset=7,
        ),
        Example(
            "y = AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1], count_include_pad = 1> "
            "(x)",
            x=(1, 1, 3, 3),
        ),
        Example(
            "y = AveragePool <kernel_shape = [2], strides = [2], ceil_mode = 1> (x)",
            x=(1, 2, 5),
            opset=10,
        ),
        Example(
            "y = AveragePool <ceil_mode = 1, count_include_pad = 1, kernel_shape = [3], pads = "
            "[1, 1], strides = [3]> "
            "(x)",
            x=(1, 1, 6),
            opset=22,
        ),
        Example(
            'y = AveragePool <kernel_shape = [2, 3], auto_pad = "SAME_UPPER"> (x)',
            x=(1, 1, 3, 4),
            opset=11,
        ),
        Example(
            'y = AveragePool <kernel_shape = [2, 4], auto_pad = "SAME_LOWER", strides = [1, 2]> '
            "(x)",
            x=(1, 1, 3, 4),
        ),
        Example(
            'y = AveragePool <kernel_shape = [2], auto_pad = "VALID", strides = [2]> (x)',
            x=(1, 1, 5),
        ),
        Example(
            "y = AveragePool <kernel_shape = [2, 2], dilations = [2, 1]> (x)",
            x=(1, 1, 4, 3),
            opset=19,
        ),
        Example("y = AveragePool <kernel_shape = [2, 1, 2]> (x)", x=(1, 1, 3, 2, 2)),
    ],
    "GlobalAveragePool": [
        Example("y = GlobalAveragePool (x)", x=(1, 2, 2, 3)),
        Example("h = GlobalAveragePool (x)\n y = Relu (h)", x=(1, 2, 3), opset=1),
    ],
    "MaxPool": [
        Example(
            "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", x=(1, 1, 4, 4), opset=1
        ),
        Example(
            "y = MaxPool <kernel_shape = [3, 2], pads = [1, 0, 1, 1], storage_order = 1, strides "
            "= [2, 1]> (x)",
            x=(1, 1, 3, 3),
            opset=8,
        ),
        Example(
            "y = MaxPool <kernel_shape = [2], strides = [2], ceil_mode = 1> (x)",
            x=(1, 2, 5),
            opset=10,
        ),
        Example(
            "y = MaxPool <kernel_shape = [2, 2], dilations = [2, 1], strides = [1, 2]> (x)",
            x=(1, 1, 4, 4),
            opset=12,
        ),
        Example(
            "y = MaxPool <kernel_shape = [3], strides = [3], pads = [1, 1], ceil_mode = 1> (x)",
            x=(1, 1, 6),
            opset=22,
        ),
        Example('y = MaxPool <kernel_shape = [2, 3], auto_pad = "SAME_UPPER"> (x)', x=(1, 1, 3, 3)),
        Example(
            'y = MaxPool <kernel_shape = [2, 4], auto_pad = "SAME_LOWER", strides = [1, 2]> (x)',
            x=(1, 1, 2, 4),
            # The reference implementation pads as for SAME_UPPER.
            modern="y = MaxPool <kernel_shape = [2, 4], pads = [1, 1, 0, 1], strides = [1, 2]> (x)",
        ),
        Example(
            'y = MaxPool <kernel_shape = [3], auto_pad = "VALID", strides = [2]> (x)', x=(1, 1, 6)
        ),
        Example("y = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)", x=(1, 2, 3, 3)),
        Example("h = MaxPool <kernel_shape = [2, 1, 2]> (x)\n y = Relu (h)", x=(1, 1, 3, 1, 2)),
    ],
    "GlobalMaxPool": [
        Example("y = GlobalMaxPool (x)", x=(1, 2, 2, 3)),
        Example(
            "h = GlobalMaxPool (x)\n y = Add (h, c)",
            x=(1, 1, 5),
            constants={"c": numbers(1)},
            opset=1,
        ),
    ],
}
