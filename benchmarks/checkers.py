"""Other people's gradient checkers on one rule: each at its defaults, on the same forward, rule and point.

A checker complains or it does not; what it raises counts as a complaint, since that is what its user
sees. An error that every rule of the kind would get is `Refuses`: a false alarm for a right rule, no catch
for a wrong one. Where a checker cannot be asked at all, `Cannot` says why.

The rule goes in as each framework's users would write it: `torch.autograd.Function`, `jax.custom_vjp` and
`custom_jvp`, autograd's `primitive`, `tf.custom_gradient`. Rules on NumPy arrays are called through
`jax.pure_callback` and `tf.numpy_function`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends, verify_jvp, verify_vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from field_cases import FieldCase

# Checkers that write down a whole Jacobian are not asked for more entries than this: 160 MB each.
DENSE = 20_000_000
# Nor is one that runs the forward for every entry, a score of times, asked for a larger input.
SLOW_DIFFERENCES = 1000
# What a checker raises for every rule of a kind, right or wrong.
OF_ITS_OWN = (
    "can't apply forward-mode autodiff (jvp) to a custom_vjp function",
    "callbacks do not support transpose",
    "NotImplementedError: JVP of",
    "NotImplementedError: VJP of",
)


class Cannot(Exception):
    """A checker cannot be asked about a rule, for the reason that it says."""


class Refuses(Exception):
    """A checker stops with an error that says nothing of the rule: a right one gets it too."""


@dataclass(frozen=True)
class Checker:
    """Somebody's gradient checker.

    Attributes:
        name: As the table calls it.
        package: The distribution that it comes from.
        module: What has to be importable.
        ask: `ask(case, dtype)` to what it complains of; empty where it passes the rule.
        call: The call, as a user writes it.
    """

    name: str
    package: str
    module: str
    ask: Callable[[FieldCase, str], str]
    call: str

    def missing(self) -> str:
        """Why it cannot be asked about anything; empty where it can."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.package} is not installed"
        return ""

    def version(self) -> str:
        """The installed version."""
        for name in (self.package, f"{self.package}-cpu"):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""


def complaint(call: Callable[[], Any]) -> str:
    """What a checker raises, in one line; empty where it raises nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Cannot:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
        if any(sign in text for sign in OF_ITS_OWN):
            raise Refuses(text) from error
        return text
    return ""


def host_only(case: FieldCase, framework: str) -> None:
    """Refuse a rule that is written for another framework's arrays."""
    if case.backend not in ("numpy", framework):
        raise Cannot(f"the rule takes {case.backend} arrays")


def host_point(case: FieldCase, dtype: str) -> list[np.ndarray]:
    """The point in NumPy."""
    if dtype == "bfloat16":
        raise Cannot("NumPy has no bfloat16")
    return [case.at[n].astype(dtype) for n in case.inputs]


def entries(case: FieldCase) -> int:
    """How many entries the largest Jacobian has."""
    out = np.asarray(forward(case, "numpy", "float64")(*host_point(case, "float64"))).size
    return int(max(a.size for a in case.at.values()) * out)


def small_enough(case: FieldCase) -> None:
    """Refuse a Jacobian that would not fit."""
    if (many := entries(case)) > DENSE:
        raise Cannot(f"it would write down a Jacobian of {many:.1g} entries")


def forward(case: FieldCase, framework: str, dtype: str) -> Callable[..., Any]:
    """The case's forward on a framework's arrays, at the point's parameters."""
    backend = backends.get(framework)

    def call(*arrays: Any) -> Any:
        with np.errstate(all="ignore"):
            return case.of(backend.namespace(dtype, "cpu"), *arrays, **case.values)

    return call


def gradients(case: FieldCase, cotangent: Any, arrays: Any) -> tuple[Any, ...]:
    """What the rule returns, as a tuple."""
    found = case.rule(cotangent, *arrays, **case.values)
    return tuple(found) if isinstance(found, tuple | list) else (found,)


# ---------------------------------------------------------------------- gradcheck


def ours(case: FieldCase, dtype: str, *, same_point: bool) -> str:
    """gradcheck: at its own examples, or at the point that the others have."""
    verify = verify_vjp if case.form == "vjp" else verify_jvp
    found = [o for o in ("autograd", "torch", "jax") if o in backends.installed()]
    report = verify(
        case.rule,
        of=case.of,
        inputs=case.inputs,
        params=case.params,
        backend=case.backend,
        name=case.name,
        dtypes=dtype,
        oracles=found,
        data={**case.at, **case.values} if case.whole or same_point else None,
    )
    refuted = [c for c in report.checks if c.verdict == "refuted"]
    if refuted:
        kind = (refuted[0].diagnosis or {}).get("kind", "")
        return f"refuted: {refuted[0].input}{f', {kind}' if kind else ''}"
    if not report.ok:
        reason = next((c.reason for c in report.checks if c.verdict != "agrees"), "")
        raise Cannot(f"undecided: {reason}")
    return ""


# ---------------------------------------------------------------------- torch


def torch_function(case: FieldCase, dtype: str) -> tuple[Any, list[Any]]:
    """The rule as a `torch.autograd.Function`, and the point."""
    import torch

    host_only(case, "torch")
    backend = backends.get("torch")
    if case.backend == "numpy" and dtype == "bfloat16":
        raise Cannot("NumPy has no bfloat16")
    run = forward(case, "torch", dtype)

    def there(array: Any) -> Any:
        return torch.from_numpy(np.array(array)) if isinstance(array, np.ndarray) else array

    def here(tensor: Any) -> Any:
        return tensor.detach().numpy() if case.backend == "numpy" else tensor.detach()

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            ctx.save_for_backward(*xs)
            ctx.save_for_forward(*xs)
            return run(*xs).clone()

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            arrays = [here(x) for x in ctx.saved_tensors]
            return tuple(there(g) for g in gradients(case, here(cotangent), arrays))

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            arrays = [here(x) for x in ctx.saved_tensors]
            given = [here(t) for t in tangents]
            return there(case.rule(given[0] if len(given) == 1 else given, *arrays, **case.values))

    xs = [backend.asarray(case.at[n], dtype).clone().requires_grad_() for n in case.inputs]
    return Rule.apply, xs


def torch_gradcheck(case: FieldCase, dtype: str, *, fast: bool) -> str:
    """`torch.autograd.gradcheck(fn, inputs)`."""
    import torch

    if not fast:
        small_enough(case)
    fn, xs = torch_function(case, dtype)
    modes = {} if case.form == "vjp" else {"check_forward_ad": True, "check_backward_ad": False}
    torch.manual_seed(0)
    return complaint(lambda: torch.autograd.gradcheck(fn, tuple(xs), fast_mode=fast, **modes))


# ---------------------------------------------------------------------- JAX and chex


def jax_function(case: FieldCase, dtype: str) -> Any:
    """The rule as a `jax.custom_vjp` or `custom_jvp` function."""
    import jax

    host_only(case, "jax")
    if case.backend == "numpy" and dtype == "bfloat16":
        raise Cannot("NumPy has no bfloat16")
    run = forward(case, "jax", dtype)
    if case.form == "jvp":
        push = jax.custom_jvp(run)

        def tangent(primals: Any, tangents: Any) -> Any:
            given = tangents[0] if len(tangents) == 1 else tangents
            value = push(*primals)
            return value, _called_back(
                lambda t, *x: case.rule(t, *x, **case.values), value, given, *primals
            )

        push.defjvp(tangent)
        return push
    pull = jax.custom_vjp(run)

    def back(xs: Any, cotangent: Any) -> Any:
        if case.backend == "jax":
            return gradients(case, cotangent, xs)
        # What the rule gives at the point tells the shapes, right or wrong.
        shown = gradients(case, np.zeros(cotangent.shape, cotangent.dtype), host_point(case, dtype))
        return _called_back(lambda v, *x: gradients(case, v, x), tuple(shown), cotangent, *xs)

    pull.defvjp(lambda *xs: (run(*xs), xs), back)
    return pull


def _called_back(rule: Callable[..., Any], like: Any, *arrays: Any) -> Any:
    """A NumPy rule inside JAX, whose results have the shapes of `like`."""
    import jax

    def on_host(*given: Any) -> Any:
        found = rule(*(np.asarray(a) for a in given))
        return jax.tree.map(lambda g, s: np.asarray(g, s.dtype), found, like)

    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
    return jax.pure_callback(on_host, shapes, *arrays)


def jax_check(case: FieldCase, dtype: str, *, default: bool) -> str:
    """`jax.test_util.check_grads(f, args, order=1)`, in the rule's own mode or in both."""
    from jax.test_util import check_grads

    backend = backends.get("jax")
    modes = {} if default else {"modes": ("rev",) if case.form == "vjp" else ("fwd",)}
    with backend.scope(dtype):
        fn = jax_function(case, dtype)
        xs = tuple(backend.asarray(case.at[n], dtype) for n in case.inputs)
        return complaint(lambda: check_grads(fn, xs, order=1, **modes))


def chex_check(case: FieldCase, dtype: str) -> str:
    """`chex.assert_numerical_grads(f, args, order=1)`, in the rule's own mode."""
    import chex

    backend = backends.get("jax")
    modes = ("rev",) if case.form == "vjp" else ("fwd",)
    with backend.scope(dtype):
        fn = jax_function(case, dtype)
        xs = tuple(backend.asarray(case.at[n], dtype) for n in case.inputs)
        return complaint(lambda: chex.assert_numerical_grads(fn, xs, order=1, modes=modes))


# ---------------------------------------------------------------------- autograd


def autograd_check(case: FieldCase, dtype: str, *, default: bool) -> str:
    """`autograd.test_util.check_grads(f)(*args)`, at its defaults or in the rule's own mode, order 1."""
    from autograd.extend import defjvp, defvjp, primitive
    from autograd.test_util import check_grads

    host_only(case, "autograd")
    xs, run = host_point(case, dtype), forward(case, "numpy", dtype)

    @primitive
    def fn(*arrays: Any) -> Any:
        return np.asarray(run(*arrays))

    def puller(k: int) -> Callable[..., Any]:
        return lambda _answer, *arrays: lambda g: gradients(case, g, arrays)[k]

    def pusher(k: int) -> Callable[..., Any]:
        def push(g: Any, _answer: Any, *arrays: Any) -> Any:
            given = [g if i == k else np.zeros_like(a) for i, a in enumerate(arrays)]
            return case.rule(given[0] if len(given) == 1 else given, *arrays, **case.values)

        return push

    if case.form == "vjp":
        defvjp(fn, *(puller(k) for k in range(len(xs))))
    else:
        defjvp(fn, *(pusher(k) for k in range(len(xs))))
    modes = {} if default else {"modes": ["rev" if case.form == "vjp" else "fwd"], "order": 1}
    np.random.seed(0)  # noqa: NPY002  its check draws from the global generator
    return complaint(lambda: check_grads(fn, **modes)(*xs))


# ---------------------------------------------------------------------- TensorFlow


def tensorflow_check(case: FieldCase, dtype: str) -> str:
    """`self.assertAllClose(*tf.test.compute_gradient(f, args))`, as its documentation has it."""
    import tensorflow as tf

    from gradcheck.backends.tensorflow_array import plain

    host_only(case, "tensorflow")
    if case.form == "jvp":
        raise Cannot("tf.custom_gradient has no forward mode")
    small_enough(case)
    backend, xs = backends.get("tensorflow"), host_point(case, dtype)
    run = forward(case, "tensorflow", dtype)

    @tf.custom_gradient
    def fn(*arrays: Any) -> Any:
        def gradient(cotangent: Any) -> Any:
            found = tf.numpy_function(
                lambda v, *a: [np.asarray(g, dtype) for g in gradients(case, v, a)],
                [cotangent, *arrays],
                [tf.as_dtype(dtype)] * len(arrays),
            )
            found = found if isinstance(found, list | tuple) else [found]
            shown = gradients(case, np.zeros(cotangent.shape, dtype), xs)
            return [tf.ensure_shape(g, s.shape) for g, s in zip(found, shown, strict=True)]

        return plain(run(*(backend.asarray(a, dtype) for a in arrays))), gradient

    def compare() -> None:
        tf.test.TestCase().assertAllClose(
            *tf.test.compute_gradient(fn, [tf.constant(x) for x in xs])
        )

    return complaint(compare)


# ---------------------------------------------------------------------- numguard


def numguard_check(case: FieldCase, dtype: str) -> str:
    """`numguard.check(f, inputs, grad=rule)`: it draws its own inputs, and sends a cotangent of ones."""
    import numguard

    host_only(case, "numpy")
    if case.form == "jvp":
        raise Cannot("it takes a gradient, not a tangent rule")
    if dtype == "bfloat16":
        raise Cannot("its bfloat16 is emulated; the rule's is not")
    run = forward(case, "numpy", dtype)
    if any(a.size > SLOW_DIFFERENCES for a in case.at.values()):
        raise Cannot("it takes differences entry by entry, for each of its inputs")
    inputs = [numguard.Array(*case.at[n].shape) for n in case.inputs]

    def wanted(*xs: Any) -> Any:
        with np.errstate(all="ignore"):
            found = gradients(case, np.ones_like(np.asarray(run(*xs))), xs)
        return found[0] if len(found) == 1 else found

    def compare() -> None:
        report = numguard.check(run, inputs=inputs, grad=wanted, dtypes=[dtype])
        made = [r for r in report.results if r.check.startswith("grad")]
        bad = [r for r in made if r.failed]
        if bad:
            raise AssertionError(f"{len(bad)} of {len(made)} gradient checks: {bad[0].message}")
        if not any(r.passed for r in made):
            raise Cannot("it made no gradient check")

    return complaint(compare)


OURS = "gradcheck"
OURS_THERE = "gradcheck, same point"
SLOW = "torch gradcheck"
FAST = "torch gradcheck, fast_mode"
JAX = "jax check_grads, own mode"
JAX_BOTH = "jax check_grads, default modes"
AUTOGRAD = "autograd check_grads"
AUTOGRAD_OWN = "autograd check_grads, own mode"
TENSORFLOW = "tf compute_gradient"
CHEX = "chex"
NUMGUARD = "numguard"

CHECKERS = (
    Checker(OURS, "gradcheck", "gradcheck", lambda c, d: ours(c, d, same_point=False),
            "verify_vjp(vjp, of=forward, inputs=...)"),
    Checker(OURS_THERE, "gradcheck", "gradcheck", lambda c, d: ours(c, d, same_point=True),
            "verify_vjp(vjp, of=forward, inputs=..., data=...)"),
    Checker(SLOW, "torch", "torch", lambda c, d: torch_gradcheck(c, d, fast=False),
            "torch.autograd.gradcheck(fn, inputs)"),
    Checker(FAST, "torch", "torch", lambda c, d: torch_gradcheck(c, d, fast=True),
            "torch.autograd.gradcheck(fn, inputs, fast_mode=True)"),
    Checker(JAX, "jax", "jax", lambda c, d: jax_check(c, d, default=False),
            'jax.test_util.check_grads(f, args, order=1, modes=("rev",)), ("fwd",) for a jvp'),
    Checker(JAX_BOTH, "jax", "jax", lambda c, d: jax_check(c, d, default=True),
            "jax.test_util.check_grads(f, args, order=1)"),
    Checker(AUTOGRAD, "autograd", "autograd", lambda c, d: autograd_check(c, d, default=True),
            "autograd.test_util.check_grads(f)(*args)"),
    Checker(AUTOGRAD_OWN, "autograd", "autograd", lambda c, d: autograd_check(c, d, default=False),
            'autograd.test_util.check_grads(f, modes=["rev"], order=1)(*args), ["fwd"] for a jvp'),
    Checker(TENSORFLOW, "tensorflow", "tensorflow", tensorflow_check,
            "self.assertAllClose(*tf.test.compute_gradient(f, args))"),
    Checker(CHEX, "chex", "chex", chex_check,
            'chex.assert_numerical_grads(f, args, order=1, modes=("rev",)), ("fwd",) for a jvp'),
    Checker(NUMGUARD, "numguard-ci", "numguard", numguard_check,
            "numguard.check(f, inputs, grad=rule), gradient checks only"),
)  # fmt: skip
