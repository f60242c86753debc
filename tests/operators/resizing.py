"""Example models of the operators in `lipexact.onnx.operators.resizing`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example

EXAMPLES: dict[str, list[Example]] = {
    "Resize": [
        Example(
            "y = Resize (x, , s)",
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
        ),
        Example(
            'y = Resize <mode = "linear"> (x, , s)',
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 1.5, 2], np.float32)},
        ),
        Example(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> '
            "(x, , , n)",
            x=(1, 1, 2, 3),
            constants={"n": np.array([1, 1, 3, 2])},
        ),
        Example(
            'y = Resize <mode = "cubic", cubic_coeff_a = -0.5> (x, , s)',
            x=(1, 1, 4, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
        ),
        Example(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel", '
            "antialias = 0, axes = [2, 3]> (x, , s)",
            x=(1, 1, 4, 6),
            constants={"s": np.array([0.75, 0.5], np.float32)},
            opset=19,
        ),
        Example(
            'y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> '
            "(x, r, s)",
            x=(1, 1, 2, 2),
            constants={"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 3], np.float32)},
            opset=11,
            modern='y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = '
            '"floor"> (x, , s)',
        ),
        Example(
            'y = Resize <mode = "linear"> (x, s)',
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
            opset=10,
            modern='y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> '
            "(x, , s)",
        ),
        Example(
            "y = Resize (x, s)",
            x=(1, 1, 2, 4),
            constants={"s": np.array([1, 1, 1.5, 1.25], np.float32)},
            opset=10,
            modern='y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = '
            '"floor"> (x, , s)',
        ),
        Example(
            'y = Resize <nearest_mode = "ceil"> (x, , , n)',
            x=(1, 1, 3, 4),
            constants={"n": np.array([1, 1, 4, 6])},
        ),
        Example(
            'y = Resize <nearest_mode = "round_prefer_ceil", coordinate_transformation_mode = '
            '"asymmetric"> (x, , s)',
            x=(1, 1, 3, 4),
            constants={"s": np.array([1, 1, 2, 0.5], np.float32)},
        ),
    ],
    "Upsample": [
        Example(
            "y = Upsample (x, s)",
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
            opset=9,
            modern='y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = '
            '"floor"> (x, , s)',
        ),
        Example(
            'y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 3.0]> (x)',
            x=(1, 1, 2, 2),
            constants={"s": np.array([1, 1, 2, 3], np.float32)},
            opset=7,
            modern='y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> '
            "(x, , s)",
        ),
    ],
}
