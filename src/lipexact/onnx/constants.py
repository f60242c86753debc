"""Limits on what is read, and the operators that are treated in a special way."""

from __future__ import annotations

import onnx

# Limits on memory. They keep a small file with huge shapes from exhausting the machine.

MAX_COEFFICIENTS = 2**27
"""The most coefficients that one node may need: 1.6 GB of memory where they are sparse."""

MAX_ENTRIES = 2**24
"""The most entries of a tensor that depends on the input.

Each takes about 100 bytes while it is rearranged.
"""

MAX_MODEL_BYTES = 2**32
"""The most memory that the constants and the coefficients of a model may take in all."""

MAX_AXES = 64
"""The most axes of a tensor, which is what numpy takes."""

MAX_SHAPE_INTEGERS = 2**16
"""The most integers in a constant that says a shape, or axes."""

MAX_FILE_BYTES = 2**31
"""The size from which on protobuf does not read a file."""

MAX_INLINED_BYTES = 2**27
"""The most bytes that the nodes of a model may take once its local functions are inlined."""

MAX_GRAPH_LEVELS = 100
"""The most levels of subgraphs in subgraphs; protobuf reads fewer from a file."""

MAX_PROPAGATED_ENTRIES = 2**16
"""The most entries of constants through which shape inference propagates values.

It takes hundreds of bytes for each.
"""

MAX_PROPAGATED_ARRAY = 1024
"""The most entries of one constant whose values shape inference sees: shapes and axes are short."""

MAX_EXACT_BASE = 2.0**20
"""The bound from which on a maximum or minimum with a constant starts from the tensor.

Below it, the result is exactly the constant where that is the larger one. A huge constant, such as
the lowest float, stands for no bound, and the tensor should be exact there.
"""

MAX_RESIZED_LENGTH = 1e18
"""The length to which a scaled axis is cut before it is rounded to an integer."""

LENGTH_TOLERANCE = 1e-6
"""How far, in proportion, a scaled length may lie from the integer that is taken for it."""

COEFFICIENTS_PER_FRACTION = 2**10
"""A fraction takes about as much memory as so many coefficients."""

# Limits on texts.

MAX_MESSAGE_CHARACTERS = 2000
"""The longest error message; names in a file may have any length."""

MAX_NAME_CHARACTERS = 200
"""The most characters of a tensor's name that become part of a node's name."""

MAX_LISTED_NAMES = 10
"""The most names that an error message lists, of more than one above this number."""

# Versions and types.

NEWEST_OPSET = 28
"""The newest ONNX operator set whose operators are known to mean what the lowerings say."""

FLOAT_TYPES = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)
"""The element types that stand for real numbers here; all arithmetic is in float64."""

# Operators without a lowering; the error says why.

NOT_PIECEWISE_LINEAR = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Attention Celu Cos Cosh Det Elu Erf Exp GRU Gelu "
    "GlobalLpPool GroupNormalization InstanceNormalization LRN LSTM LayerNormalization Log "
    "LogSoftmax LpNormalization LpPool MeanVarianceNormalization Mish Pow RMSNormalization RNN "
    "Reciprocal ReduceL2 ReduceLogSum ReduceLogSumExp ReduceProd ReduceSumSquare Selu Sigmoid "
    "Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ai.onnx.ml.Normalizer "
    "ai.onnx.ml.SVMClassifier ai.onnx.ml.SVMRegressor com.microsoft.BiasGelu "
    "com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QuickGelu".split()
)
"""Common operators that are not piecewise linear."""

DISCONTINUOUS = frozenset(
    "ArgMax ArgMin BitShift Ceil DynamicQuantizeLinear Equal Floor Greater GreaterOrEqual "
    "Hardmax IsInf IsNaN Less LessOrEqual Mod NonMaxSuppression NonZero OneHot QuantizeLinear "
    "Round Sign Unique ai.onnx.ml.Binarizer ai.onnx.ml.LabelEncoder ai.onnx.ml.LinearClassifier "
    "ai.onnx.ml.TreeEnsemble ai.onnx.ml.TreeEnsembleClassifier "
    "ai.onnx.ml.TreeEnsembleRegressor".split()
)
"""Common operators that are not continuous."""

# The end of classifiers, which `drop_final` leaves out.

FINAL_ACTIVATIONS = frozenset(
    ("ArgMax", "Hardmax", "LogSoftmax", "Sigmoid", "Softmax", "Softplus", "Tanh")
)
"""The operators in which classifiers end and that `drop_final` leaves out."""

AROUND_FINAL_ACTIVATION = frozenset(
    "ArrayFeatureExtractor Binarizer Cast Concat Flatten Identity LabelEncoder Reshape Squeeze "
    "Sub Transpose Unsqueeze ZipMap".split()
)
"""Operators between the last activation of a classifier and its output.

They make labels, or one minus the probability.
"""

# Folding of nodes whose inputs are all constant.

RANDOM = frozenset(("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"))
"""Operators that are not a function of their inputs alone, and are not folded."""

LOWERED_ON_CONSTANTS = frozenset(
    ("AveragePool", "BatchNormalization", "ConvTranspose", "MaxPool", "Resize", "Upsample")
)
"""Operators that the reference implementation evaluates wrongly; their lowerings fold them.

It takes BatchNormalization of opset 9 as in training, and is wrong about groups of ConvTranspose,
SAME_LOWER of pools, and scales of Resize that are no whole numbers.
"""

SIZED_BY_VALUES = frozenset(
    "AffineGrid BlackmanWindow CenterCropPad Col2Im ConstantOfShape DFT Expand HammingWindow "
    "HannWindow MelWeightMatrix OneHot Pad Range Tile".split()
)
"""Operators whose outputs are as large as values of inputs or attributes say, not shapes."""

UNBOUNDED = frozenset(
    "DeformConv GridSample ImageDecoder MaxRoiPool MaxUnpool NonMaxSuppression RegexFullMatch "
    "RoiAlign STFT TfIdfVectorizer ai.onnx.ml.TreeEnsemble ai.onnx.ml.TreeEnsembleClassifier "
    "ai.onnx.ml.TreeEnsembleRegressor".split()
)
"""Operators for which the reference implementation may take any time or memory."""
