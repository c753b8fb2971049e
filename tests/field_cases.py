"""One table of gradients that today's checkers get wrong, for the tests and for published comparisons.

Each case is a forward against `xp`, a rule in numpy, where the inputs live, and what has to be said of
it. `at` gives one point in arrays, for checkers that take a point; where `whole` is true the point is
the case (its size is what others stumble over), else the search finds its own.
"""

# ruff: noqa: ARG001 - rules and forwards take what their signature demands

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import labels, mask, number, positive, probability, real

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any


@dataclass(frozen=True)
class FieldCase:
    """One rule, right or wrong.

    Attributes:
        name: A Python identifier.
        rule: `vjp(cotangent, *inputs, **params)`, or `jvp(tangents, *inputs, **params)`.
        of: `forward(xp, *inputs, **params)`.
        inputs: The domains.
        at: A point at which the rule is wrong, or is wrongly blamed.
        right: Whether the rule is right.
        missed_by: Who passes it though it is wrong, or fails it though it is right.
        blames: The input whose gradient is wrong; the first one where left out.
        kind: For a fault that is no number: what the diagnosis calls it.
        params: The parameters.
        values: The parameters at the point.
        dtypes: In which precision.
        form: "vjp" or "jvp".
        whole: Whether the point is the case.
        backend: Whose arrays the rule takes.
    """

    name: str
    rule: Callable[..., Any]
    of: Callable[..., Any]
    inputs: dict[str, Any]
    at: dict[str, Array]
    right: bool = False
    missed_by: str = ""
    blames: str = ""
    kind: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float64",)
    form: str = "vjp"
    whole: bool = False
    backend: str = "numpy"

    @property
    def blamed(self) -> str:
        """The input whose gradient is wrong."""
        return self.blames or next(iter(self.inputs))


def points(*shape: int) -> Array:
    """Short decimals without pattern."""
    return np.round(np.random.default_rng(0).normal(size=shape), 2)


# ---------------------------------------------------------------------- forwards and right rules


def double(xp: Any, x: Any) -> Any:
    return 2 * x


def negated(xp: Any, x: Any) -> Any:
    return -x


def square(xp: Any, x: Any) -> Any:
    return x * x


def third(xp: Any, x: Any) -> Any:
    return x / 3


def millionth(xp: Any, x: Any) -> Any:
    return 1e-6 * x


def tiny(xp: Any, x: Any) -> Any:
    return 1e-8 * x


def sine(xp: Any, x: Any) -> Any:
    return xp.sin(x)


def product(xp: Any, x: Any, y: Any) -> Any:
    return x * y


def add_bias(xp: Any, x: Any, b: Any) -> Any:
    return x + b


def relu(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0)


def largest(xp: Any, x: Any) -> Any:
    return xp.max(x, axis=-1)


def hard_swish(xp: Any, x: Any) -> Any:
    return x * xp.clip(x + 3, 0, 6) / 6


def softmax(xp: Any, z: Any) -> Any:
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def rms_norm(xp: Any, x: Any, g: Any, *, eps: Any) -> Any:
    return g * x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)


def softmax_of(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_rule(v: Array, z: Array) -> Array:
    a = softmax_of(z)
    return a * (v - (v * a).sum(-1, keepdims=True))


def rms_rule(v: Array, x: Array, g: Array, *, eps: float) -> tuple[Array, Array]:
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(eps))
    inner = (v * g * x).mean(-1, keepdims=True)
    return r * (v * g - x * r * r * inner), (v * x * r).sum(0)


# ---------------------------------------------------------------------- wrong on purpose


def zeros(v: Array, x: Array) -> Array:
    return 0 * v


def sign_flipped(v: Array, x: Array) -> Array:
    return v


def one_entry_by_ten(v: Array, x: Array) -> Array:
    gradient = 2 * v
    gradient[17] += 10 * v[3]
    return gradient


def one_entry_by_three_quarters(v: Array, x: Array) -> Array:
    gradient = 2 * v
    gradient[7] -= 1.5 * v[7]
    return gradient


def reversed_square(v: Array, x: Array) -> Array:
    return (2 * x * v)[::-1].copy()


def rolled_square(v: Array, x: Array) -> Array:
    return np.roll(2 * x * v, 1)


def bias_unsummed(v: Array, x: Array, b: Array) -> tuple[Array, Array]:
    return v, v.copy()


def softmax_off_diagonal(v: Array, z: Array) -> Array:
    return softmax_rule(v, z) + v.dtype.type(1e-4) * v


def softmax_zero(v: Array, z: Array) -> Array:
    return np.zeros_like(z)


def rounded_third(v: Array, x: Array) -> Array:
    return v * v.dtype.type(0.3333)


def five_times(v: Array, x: Array) -> Array:
    return 5e-8 * v


def no_tangent(t: Array, x: Array) -> Array:
    return 0 * t


def ignores_cotangent(v: Array, x: Array) -> Array:
    return np.full_like(x, 2)


def right_for_ones(v: Array, x: Array) -> Array:
    return 2 * x * v.mean()


def second_argument(v: Array, x: Array, y: Array) -> tuple[Array, Array]:
    return v * y, v * y


WRONG = (
    FieldCase("zero_of_300_000", zeros, double, {"x": real("n")}, {"x": points(300_000)},
              missed_by="torch fast_mode", whole=True),
    FieldCase("sign_flip_of_a_million", sign_flipped, negated, {"x": real("n")}, {"x": points(1_000_000)},
              missed_by="torch fast_mode", whole=True),
    FieldCase("one_entry_by_ten", one_entry_by_ten, double, {"x": real("n")}, {"x": points(1000)},
              missed_by="torch fast_mode", whole=True),
    FieldCase("one_entry_by_three_quarters", one_entry_by_three_quarters, double, {"x": real("n")},
              {"x": points(100)}, missed_by="torch fast_mode", whole=True),
    FieldCase("reversed_jacobian", reversed_square, square, {"x": real("n")}, {"x": points(4000)},
              missed_by="torch fast_mode", whole=True),
    FieldCase("rolled_jacobian", rolled_square, square, {"x": real("n")}, {"x": points(4000)},
              missed_by="torch fast_mode", whole=True),
    FieldCase("forgotten_sum", bias_unsummed, add_bias, {"x": real("m n"), "b": real("n")},
              {"x": points(4, 5), "b": points(5)}, missed_by="torch, both modes", blames="b", kind="shape"),
    FieldCase("zero_of_a_millionth", zeros, millionth, {"x": real("n")}, {"x": points(5)},
              missed_by="torch slow"),
    FieldCase("softmax_diagonal", softmax_off_diagonal, softmax, {"z": real("m n")}, {"z": points(4, 5)},
              missed_by="torch slow"),
    FieldCase("rounded_third", rounded_third, third, {"x": real("n")}, {"x": points(5)},
              missed_by="torch, JAX float32", dtypes=("float64", "float32")),
    FieldCase("five_times_1e8", five_times, tiny, {"x": real("n")}, {"x": points(5)},
              missed_by="autograd"),
    FieldCase("no_tangent", no_tangent, sine, {"x": real("n")}, {"x": points(600)},
              missed_by="JAX forward mode", dtypes=("float32",), form="jvp", whole=True),
    FieldCase("zero_of_10_000", zeros, sine, {"x": real("n")}, {"x": points(10_000)},
              missed_by="chex, both modes", dtypes=("float64", "float32"), whole=True),
    FieldCase("softmax_zero", softmax_zero, softmax, {"z": real("m n")}, {"z": points(4, 5)},
              missed_by="numguard"),
    FieldCase("ignores_cotangent", ignores_cotangent, double, {"x": real("n")}, {"x": points(5)},
              missed_by="whoever checks f(x).sum()", kind="linearity"),
    FieldCase("right_for_ones", right_for_ones, square, {"x": real("n")}, {"x": points(5)},
              missed_by="whoever checks f(x).sum()"),
    FieldCase("second_argument", second_argument, product, {"x": real("n"), "y": real("n")},
              {"x": points(5), "y": points(6)[1:]}, missed_by="autograd's default", blames="y"),
)  # fmt: skip


# ---------------------------------------------------------------------- right, and blamed elsewhere


def cosine(v: Array, x: Array) -> Array:
    return v * np.cos(x)


def relu_rule(v: Array, x: Array) -> Array:
    return v * (x > 0)


def relu_half(v: Array, x: Array) -> Array:
    return v * np.where(x > 0, 1, np.where(x < 0, 0, 0.5)).astype(x.dtype)


def first_largest(v: Array, x: Array) -> Array:
    gradient = np.zeros_like(x)
    np.put_along_axis(gradient, x.argmax(-1, keepdims=True), v[..., None], -1)
    return gradient


def hard_swish_rule(v: Array, x: Array) -> Array:
    inner = (x + 3 >= 0) & (x + 3 <= 6)
    return v * (np.clip(x + 3, 0, 6) / 6 + x * inner / 6)


def jax_cosine(v: Any, x: Any) -> Any:
    import jax.numpy as jnp

    return v * jnp.cos(x)


def torch_cosine(v: Any, x: Any) -> Any:
    return v * x.cos()


RIGHT = (
    FieldCase("sine", cosine, sine, {"x": real("n")}, {"x": points(5)}, right=True,
              missed_by="torch, autograd float32; torch, JAX, TensorFlow float16",
              dtypes=("float64", "float32", "float16")),
    FieldCase("sine_in_torch", torch_cosine, sine, {"x": real("n")}, {"x": points(5)}, right=True,
              missed_by="torch, JAX, TensorFlow", dtypes=("float32", "float16", "bfloat16"), backend="torch"),
    FieldCase("sine_in_jax", jax_cosine, sine, {"x": real("n")}, {"x": points(5)}, right=True,
              missed_by="JAX's default modes", dtypes=("float64", "float32", "bfloat16"), backend="jax"),
    FieldCase("relu_at_0", relu_rule, relu, {"x": real("n")}, {"x": np.array([0.0, 1.0, -1.0])}, right=True,
              missed_by="finite differences"),
    FieldCase("relu_half_at_0", relu_half, relu, {"x": real("n")}, {"x": np.array([0.0, 1.0])}, right=True,
              missed_by="finite differences"),
    FieldCase("tied_maximum", first_largest, largest, {"x": real("m n")}, {"x": np.ones((2, 3))}, right=True,
              missed_by="finite differences"),
    FieldCase("hard_swish_corners", hard_swish_rule, hard_swish, {"x": real("n")},
              {"x": np.array([-3.0, 3.0, 1.0])}, right=True, missed_by="finite differences"),
    FieldCase("rms_norm", rms_rule, rms_norm, {"x": real("m n"), "g": real("n")},
              {"x": points(3, 4), "g": points(4)}, right=True, missed_by="float32 finite differences",
              params={"eps": number(1e-5, 1e-2)}, values={"eps": 1e-3}, dtypes=("float64", "float32")),
    FieldCase("plain_numpy", softmax_rule, softmax, {"z": real("m n")}, {"z": points(4, 5)}, right=True,
              missed_by="autograd's default order 2", dtypes=("float64", "float32", "float16")),
    FieldCase("large_softmax", softmax_rule, softmax, {"z": real("m n")}, {"z": points(64, 500)}, right=True,
              dtypes=("float64", "float32"), whole=True),
)  # fmt: skip


# ---------------------------------------------------------------------- where bugs hide


def row_product(xp: Any, x: Any) -> Any:
    return xp.prod(x, axis=-1)


def product_by_division(v: Array, x: Array) -> Array:
    return v[..., None] * x.prod(-1, keepdims=True) / x


def leaky(xp: Any, x: Any, *, slope: Any) -> Any:
    return xp.where(x > 0, x, slope * x)


def default_slope(v: Array, x: Array, *, slope: float) -> Array:
    return v * np.where(x > 0, 1.0, 0.01)


def scaled_power(xp: Any, x: Any, *, p: Any) -> Any:
    return x**p


def power_two(v: Array, x: Array, *, p: float) -> Array:
    return v * 2 * x


def pick(xp: Any, x: Any, i: Any) -> Any:
    return xp.take(x, i, axis=0)


def scatter_overwrites(v: Array, x: Array, i: Array) -> Array:
    gradient = np.zeros_like(x)
    gradient[i] = v
    return gradient


def scatter_adds(v: Array, x: Array, i: Array) -> Array:
    gradient = np.zeros_like(x)
    np.add.at(gradient, i, v)
    return gradient


def masked_mean(xp: Any, x: Any, w: Any) -> Any:
    return xp.sum(x * w, axis=-1) / (1 + xp.sum(w, axis=-1))


def equal_counts(v: Array, x: Array, w: Array) -> Array:
    """Right where every row keeps as many."""
    return v[:, None] * w / (1 + w.sum() / len(w))


def softplus(xp: Any, x: Any) -> Any:
    return xp.logaddexp(x, 0)


def overflowing(v: Array, x: Array) -> Array:
    e = np.exp(x)
    return v * e / (1 + e)


def clipped_tiny(v: Array, x: Array) -> Array:
    return v * np.where(np.abs(x) < 1e-8, 0.0, 2 * x)


def mean_square(xp: Any, x: Any) -> Any:
    return xp.mean(x * x, axis=-1)


def rows_for_columns(v: Array, x: Array) -> Array:
    return v[:, None] * 2 * x / x.shape[0]


def block_of_32(v: Array, x: Array) -> Array:
    gradient = np.zeros_like(x)
    gradient[:32] = 2 * x[:32] * v[:32]
    return gradient


def divides_by_n_less_1(v: Array, x: Array) -> Array:
    n = x.shape[-1]
    return v[:, None] * 2 * x / n if n > 1 else np.full_like(x, np.nan)


def broadcast_row(xp: Any, x: Any, b: Any) -> Any:
    return x * b


def never_broadcast(v: Array, x: Array, b: Array) -> tuple[Array, Array]:
    return v * b, v * x


def soft_entropy(xp: Any, z: Any, y: Any) -> Any:
    return -xp.sum(y * (z - xp.logsumexp(z, axis=-1, keepdims=True)), axis=-1)


def normalised_targets(v: Array, z: Array, y: Array) -> Array:
    return v[:, None] * (softmax_of(z) - y)


def reads_raw_memory(v: Array, x: Array) -> Array:
    return 2 * v.ravel("K").reshape(v.shape)


class Accumulates:
    """Adds to the gradient of the call before."""

    def __init__(self) -> None:
        self.kept: dict[Any, Array] = {}

    def __call__(self, v: Array, x: Array) -> Array:
        key = (x.shape, x.tobytes(), v.tobytes())
        self.kept[key] = self.kept.get(key, 0) + 2 * v
        return self.kept[key]


def writes_into_input(v: Array, x: Array) -> Array:
    x *= 2
    return x * v


def writes_into_cotangent(v: Array, x: Array) -> Array:
    v *= 2
    return v


def restores_too_late(v: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Borrows y's memory, and puts back what was there: right unless x lies there too."""
    saved = y.copy()
    y[...] = 0
    first, second = v * saved, v * x
    y[...] = saved
    return first, second


def half_precision_mean(xp: Any, x: Any) -> Any:
    return xp.mean(x, axis=-1)


def count_overflows(v: Array, x: Array) -> Array:
    return v[..., None] * np.ones_like(x) / x.dtype.type(x.shape[-1])


def entropy_of(xp: Any, a: Any) -> Any:
    return -xp.sum(a * xp.log(a), axis=-1)


def entropy_without_one(v: Array, a: Array) -> Array:
    return -v[..., None] * np.log(a)


HIDDEN = (
    FieldCase("zeros", product_by_division, row_product, {"x": real("m n")}, {"x": np.array([[0.0, 2.0]])}),
    FieldCase("default_slope", default_slope, leaky, {"x": real("n")}, {"x": np.array([-1.0])},
              params={"slope": number(-1, 1)}, values={"slope": 0.5}),
    FieldCase("default_exponent", power_two, scaled_power, {"x": positive("n")}, {"x": np.array([2.0])},
              params={"p": number(-3, 3)}, values={"p": 3.0}),
    FieldCase("repeated_indices", scatter_overwrites, pick, {"x": real("n"), "i": labels("m", below="n")},
              {"x": points(3), "i": np.array([1, 1])}),
    FieldCase("unequal_masks", equal_counts, masked_mean, {"x": real("m n"), "w": mask("m n")},
              {"x": points(2, 2), "w": np.array([[1.0, 0.0], [1.0, 1.0]])}),
    FieldCase("near_log_max", overflowing, softplus, {"x": real("n")}, {"x": np.array([710.0])}),
    FieldCase("tiny_values", clipped_tiny, square, {"x": real("n")}, {"x": np.array([1e-9])}),
    FieldCase("rectangular", rows_for_columns, mean_square, {"x": real("m n")}, {"x": points(2, 3)}),
    FieldCase("above_a_block", block_of_32, square, {"x": real("n")}, {"x": points(33)}),
    FieldCase("size_1", divides_by_n_less_1, mean_square, {"x": real("m n")}, {"x": points(2, 1)}),
    FieldCase("size_1_broadcast", never_broadcast, broadcast_row, {"x": real("m n"), "b": real("m #n")},
              {"x": points(2, 3), "b": points(2, 1)}, blames="b", kind="shape"),
    FieldCase("unnormalised_targets", normalised_targets, soft_entropy,
              {"z": real("m n"), "y": mask("m n")}, {"z": points(1, 2), "y": np.array([[1.0, 1.0]])}),
    FieldCase("raw_memory", reads_raw_memory, double, {"x": real("m n")}, {"x": points(2, 3)}, kind="layout"),
    FieldCase("second_call", Accumulates(), double, {"x": real("n")}, {"x": points(3)}),
    FieldCase("written_input", writes_into_input, square, {"x": real("n")}, {"x": points(3)}),
    FieldCase("written_cotangent", writes_into_cotangent, double, {"x": real("n")}, {"x": points(3)},
              kind="mutation"),
    FieldCase("one_array_twice", restores_too_late, product, {"x": real("n"), "y": real("n")},
              {"x": points(3), "y": points(3)}, kind="aliasing", blames="y"),
    FieldCase("long_half_precision", count_overflows, half_precision_mean, {"x": real("n")},
              {"x": points(70_001)}, dtypes=("float16",)),
    FieldCase("entropy", entropy_without_one, entropy_of, {"a": probability("m n")},
              {"a": np.array([[0.25, 0.75]])}),
)  # fmt: skip

ALL = (*WRONG, *RIGHT, *HIDDEN)
