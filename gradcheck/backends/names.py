"""The documented list of what a forward may call on `xp`: the only list there is.

Every namespace (one a framework, and the error-carrying one) provides exactly these names, with the
array API standard's meaning and keywords (https://data-apis.org/array-api, version 2024.12) unless a
remark below says otherwise. All functions accept Python scalars where they accept arrays; of Python
scalars alone they give a Python float.
"""

from __future__ import annotations

# `sigmoid(x)` = 1 / (1 + exp(-x)) and `erf` are not in the standard; every framework has them.
UNARY = (
    "abs", "acos", "asin", "atan", "cos", "cosh", "erf", "exp", "expm1", "log", "log1p", "negative",
    "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
)  # fmt: skip

BINARY = (
    "add", "divide", "logaddexp", "maximum", "minimum", "multiply", "pow", "subtract",
)  # fmt: skip

# Comparisons give boolean arrays, for `where` and for masks.
COMPARISONS = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")

# `where(condition, x, y)`; `clip(x, min=None, max=None)` with scalar or array bounds.
SELECTION = ("where", "clip")

# All take `axis=None` (an int or a tuple of ints) and `keepdims=False`; var and std take
# `correction=0` too, logsumexp is log Σ exp.
REDUCTIONS = ("logsumexp", "max", "mean", "min", "prod", "std", "sum", "var")

# `einsum("pq,qr->pr", x, y)` with an explicit output and no ellipsis; `linalg.inv` and
# `linalg.det` are reached as `xp.linalg.inv`, and work on stacks of square matrices.
LINEAR = ("einsum", "matmul", "matrix_transpose", "linalg")

# `take(x, indices, axis=...)` with integer indices of any rank; `one_hot(labels, n)` puts a new
# last axis of size n; `concat` and `stack` take a list of arrays and `axis=0`; `diagonal(x)` and
# `trace(x)` work on the last two axes; `cumulative_sum(x, axis=...)`; `expand_dims(x, axis=...)`.
SHAPES = (
    "broadcast_to", "concat", "cumulative_sum", "diagonal", "expand_dims", "flip", "one_hot",
    "permute_dims", "reshape", "roll", "squeeze", "stack", "take", "trace", "tril", "triu",
)  # fmt: skip

# `asarray(x)`, `zeros(shape)`, `ones(shape)`, `eye(n)` give the namespace's dtype on its device;
# `arange(n)` gives integers, for masks and indices.
CREATION = ("arange", "asarray", "eye", "ones", "ones_like", "zeros", "zeros_like")

CONSTANTS = ("e", "inf", "newaxis", "pi")

XP_NAMES: frozenset[str] = frozenset(
    UNARY + BINARY + COMPARISONS + SELECTION + REDUCTIONS + LINEAR + SHAPES + CREATION + CONSTANTS
)
