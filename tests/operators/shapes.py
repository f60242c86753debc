"""Example models of the operators in `lipexact.onnx.operators.shapes`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example, numbers

EXAMPLES: dict[str, list[Example]] = {
    "Concat": [
        Example("r = Relu (x)\n y = Concat <axis = 1> (x, c, r)", constants={"c": numbers(1, 2)}),
        Example("r = Relu (x)\n y = Concat <axis = -1> (r, x, x)", x=(1, 2, 2)),
        Example("y = Concat <axis = 0> (x)"),
        Example(
            "r = Neg (x)\n y = Concat <axis = -2> (c, x, r)",
            x=(1, 3, 2),
            constants={"c": numbers(1, 1, 2)},
        ),
        Example(
            "r = Neg (x)\n y = Concat (x, r)",
            opset=3,
            modern="r = Neg (x)\n y = Concat <axis = 1> (x, r)",
        ),
    ],
    "DepthToSpace": [
        Example("y = DepthToSpace <blocksize = 2> (x)", x=(1, 8, 1, 2)),
        Example('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', x=(1, 8, 2, 1)),
        Example('y = DepthToSpace <blocksize = 1, mode = "DCR"> (x)', x=(1, 2, 1, 2)),
    ],
    "Expand": [
        Example("y = Expand (x, s)", x=(1, 3, 1), constants={"s": np.array([2, 1, 2])}),
        Example("y = Expand (x, s)", x=(1, 3), constants={"s": np.array([2, 1, 1])}),
        Example("y = Expand (x, s)", x=(2, 3)[1:], constants={"s": np.array([2, 3])}),
        Example("y = Expand (x, s)", x=(1, 3), constants={"s": np.array([3])}, opset=8),
    ],
    "Flatten": [
        Example("y = Flatten (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 2> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = -1> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 0> (x)", x=(3,)),
    ],
    "Pad": [
        Example("y = Pad (x, p)", x=(1, 3), constants={"p": np.array([0, 1, 0, 2])}),
        Example(
            "y = Pad (x, p, v)",
            x=(1, 3),
            constants={
                "p": np.array([0, -1, 1, 2]),
                "v": np.array(0.5),
                "q": np.array([0, 0, 1, 2]),
                "b": np.array([0, 1]),
                "e": np.array([1, 3]),
            },
            modern="s = Slice (x, b, e)\n y = Pad (s, q, v)",
        ),
        Example(
            "y = Pad (x, p, v, a)",
            x=(1, 2, 3),
            constants={"p": np.array([1, 0, 0, 2]), "v": np.array(-1.5), "a": np.array([-1, 1])},
            opset=18,
        ),
        Example(
            "y = Pad (x, p, , a)",
            x=(1, 3),
            constants={"p": np.array([2, 1]), "a": np.array([1])},
            opset=21,
        ),
        Example(
            'y = Pad <mode = "reflect"> (x, p)',
            x=(1, 2, 3),
            constants={"p": np.array([0, 1, 2, 0, 0, 1])},
        ),
        Example(
            'y = Pad <mode = "edge"> (x, p)',
            x=(1, 2, 2),
            constants={"p": np.array([0, 1, 2, 1, 0, 3])},
        ),
        Example(
            'y = Pad <mode = "wrap"> (x, p)',
            x=(1, 3),
            constants={"p": np.array([0, 2, 0, 4])},
            opset=19,
        ),
        Example(
            'y = Pad <pads = [0, 1, 0, 2], value = 0.25, mode = "constant"> (x)', x=(1, 3), opset=2
        ),
        Example("y = Pad <paddings = [0, 1, 0, 2]> (x)", x=(1, 3), opset=1),
    ],
    "Reshape": [
        Example("y = Reshape (x, s)", constants={"s": np.array([3, -1])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([0, 3, 2])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([1, 0, 1, -1])}),
        Example("y = Reshape <allowzero = 1> (x, s)", x=(1, 2, 3), constants={"s": np.array([-1])}),
        Example(
            "y = Reshape <shape = [0, 2, -1]> (x)",
            constants={"s": np.array([0, 2, -1])},
            opset=1,
            modern="y = Reshape (x, s)",
        ),
    ],
    "Shape": [
        Example("s = Shape (x)\n f = Flatten <axis = 0> (x)\n y = Reshape (f, s)", x=(1, 2, 3)),
        Example("s = Shape <start = -2, end = 9> (x)\n y = Reshape (x, s)", x=(1, 2, 3)),
        Example(
            "s = Shape (x)\n b = Gather <axis = 0> (s, i)\n u = Unsqueeze (b, a)\n "
            "t = Concat <axis = 0> (u, m)\n"
            "y = Reshape (x, t)",
            x=(1, 2, 3),
            constants={"i": np.array(0), "a": np.array([0]), "m": np.array([-1])},
        ),
        Example(
            "s = Shape (x)\n o = ConstantOfShape <value = double[1] {1.5}> (s)\n y = Sub (x, o)"
        ),
    ],
    "Size": [
        Example(
            "n = Size (x)\n s = Reshape (n, o)\n y = Reshape (x, s)", constants={"o": np.array([1])}
        )
    ],
    "Slice": [
        Example("y = Slice (x, s, e)", constants={"s": np.array([0, 1]), "e": np.array([1, 4])}),
        Example(
            "y = Slice (x, s, e, a, t)",
            x=(1, 4, 5),
            constants={
                "s": np.array([-1, 1]),
                "e": np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max]),
                "a": np.array([-1, 1]),
                "t": np.array([-2, 2]),
            },
        ),
        Example(
            "y = Slice (x, s, e, , t)",
            x=(5,),
            constants={"s": np.array([-2]), "e": np.array([-100]), "t": np.array([-1])},
        ),
        Example(
            "y = Slice (x, s, e, a)",
            x=(1, 4),
            constants={
                "s": np.array([-3], np.int32),
                "e": np.array([-1], np.int32),
                "a": np.array([1], np.int32),
            },
            opset=10,
        ),
        Example("y = Slice <axes = [1], starts = [2], ends = [2147483647]> (x)", opset=9),
        Example("y = Slice <starts = [0, -5], ends = [7, -1]> (x)", opset=1),
    ],
    "SpaceToDepth": [
        Example("y = SpaceToDepth <blocksize = 2> (x)", x=(1, 2, 2, 4)),
        Example(
            'y = SpaceToDepth <blocksize = 2, mode = "CRD"> (x)',
            x=(1, 2, 2, 2),
            constants={"s": np.array([1, 2, 1, 2, 1, 2]), "t": np.array([1, 8, 1, 1])},
            opset=28,
            modern="r = Reshape (x, s)\n p = Transpose <perm = [0, 1, 3, 5, 2, 4]> (r)\n "
            "y = Reshape (p, t)",
        ),
        Example(
            'y = SpaceToDepth <blocksize = 2, mode = "DCR"> (x)',
            x=(1, 2, 2, 2),
            constants={"s": np.array([1, 2, 1, 2, 1, 2]), "t": np.array([1, 8, 1, 1])},
            opset=28,
            modern="r = Reshape (x, s)\n p = Transpose <perm = [0, 3, 5, 1, 2, 4]> (r)\n "
            "y = Reshape (p, t)",
        ),
    ],
    "Split": [
        Example("a, b, c = Split <axis = 1> (x)\n y = Concat <axis = 1> (c, a, b)"),
        Example("a, y = Split <axis = -1> (x, s)", constants={"s": np.array([2, 4])}),
        Example("a, b = Split <axis = 1, split = [1, 5]> (x)\n y = Sub (a, b)", opset=11),
        Example("a, b = Split (x)\n y = Sub (a, b)", x=(4,), opset=2),
        Example("a, y = Split <axis = 1> (x)", opset=1, modern="a, y = Split <axis = 1> (x)"),
        Example("a, b, y = Split <axis = 1, num_outputs = 3> (x)", x=(1, 5), opset=18),
        Example(
            "a, b, y = Split <axis = 1> (x, s)",
            x=(1, 5),
            constants={"s": np.array([2, 0, 3])},
            opset=18,
        ),
    ],
    "Squeeze": [
        Example("y = Squeeze (x, a)", x=(1, 3, 1), constants={"a": np.array([-1])}),
        Example("y = Squeeze (x)", x=(1, 3, 1)),
        Example("y = Squeeze <axes = [2]> (x)", x=(1, 3, 1), opset=11),
    ],
    "Tile": [
        Example("y = Tile (x, r)", x=(1, 3), constants={"r": np.array([2, 2])}),
        Example("y = Tile (x, r)", x=(1, 2, 2), constants={"r": np.array([1, 3, 1])}, opset=6),
        Example(
            "y = Tile (x, n, a)",
            x=(1, 2, 2),
            constants={"n": np.array([3.0]), "a": np.array([1.0]), "r": np.array([1, 3, 1])},
            opset=1,
            modern="y = Tile (x, r)",
        ),
    ],
    "Transpose": [
        Example("y = Transpose (x)", x=(1, 2, 3)),
        Example("y = Transpose <perm = [0, 2, 1]> (x)", x=(1, 2, 3)),
        Example("y = Transpose <perm = [2, 0, 3, 1]> (x)", x=(1, 2, 1, 3), opset=1),
    ],
    "Trilu": [
        Example("y = Trilu (x)", x=(1, 3, 3)),
        Example("y = Trilu <upper = 0> (x, k)", x=(1, 2, 4), constants={"k": np.array(1)}),
    ],
    "Unsqueeze": [
        Example("y = Unsqueeze (x, a)", x=(1, 3), constants={"a": np.array([0, -1])}),
        Example("y = Unsqueeze <axes = [2]> (x)", x=(1, 3), opset=11),
    ],
}
