"""The operators a served model may use, by domain: the standard ones that compute one answer from their inputs alone.

Left out on purpose: random operators and Dropout (a score must be reproducible), training losses, sequences, optionals and maps
(ZipMap: scores must be tensors), strings and regular expressions, image decoding. An operator that ONNX adds later is refused
until it stands here.
"""

from __future__ import annotations

from typing import Final

DEFAULT_DOMAIN: Final = "ai.onnx"  # also written ""
ML_DOMAIN: Final = "ai.onnx.ml"

# Operators that hold a graph of their own.
SUBGRAPH_OPERATORS: Final = frozenset({"If", "Loop", "Scan"})

TREE_OPERATORS: Final = frozenset({"TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"})

# Operators that weigh all inputs, and those that may stand around one of them in a linear model: scalers, casts, and what makes a
# probability of its margin.
LINEAR_OPERATORS: Final = frozenset({"Gemm", "LinearClassifier", "LinearRegressor", "MatMul"})
_BESIDE_LINEAR = """
Add ArgMax ArrayFeatureExtractor Cast Concat Constant Div Flatten Gather Identity Mul Neg Normalizer Reshape Scaler Sigmoid
Slice Softmax Squeeze Sub Unsqueeze
"""
BESIDE_LINEAR_OPERATORS: Final = frozenset(_BESIDE_LINEAR.split())

# Operators of quantised models. (A Cast to int8 is none: nothing is computed in it.)
INT8_OPERATORS: Final = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)

_DEFAULT_OPERATORS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BitShift BitwiseAnd
BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvInteger
ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp
Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN
LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger
Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape ReverseSequence RotaryEmbedding Round
Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""

_ML_OPERATORS = """
ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder
SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
"""

ALLOWED_OPERATORS: Final[dict[str, frozenset[str]]] = {
    DEFAULT_DOMAIN: frozenset(_DEFAULT_OPERATORS.split()),
    ML_DOMAIN: frozenset(_ML_OPERATORS.split()),
}

# What to do about the refused operators that exporters really write.
OPERATOR_MENDS: Final[dict[str, str]] = {
    "ZipMap": "export with the option zipmap=False (skl2onnx: options={'zipmap': False})",
    "Dropout": "export the model in inference mode (PyTorch: model.eval() before torch.onnx.export)",
    "RandomNormal": "export without sampling: a score must be reproducible",
    "CategoryMapper": "declare a vocabulary in the feature set; strings are mapped before the model",
}
