"""Ten thousand malformed texts: each is understood, or refused by an error of our own."""

from __future__ import annotations

import datetime
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gradcheck import Spec, delta, einsum, real, size
from gradcheck.checking.gate import gate
from gradcheck.configuration import _KEYS, parse, read, spec_files
from gradcheck.domains import integers, labels
from gradcheck.errors import GradcheckError
from gradcheck.library import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradcheck.algebra.terms import Expression

# A batch an example: what costs time is Hypothesis's own work for each.
BATCH = 20
# Derandomised: the same texts in each run, so that a failure here is never a matter of luck.
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    max_examples=50,
    suppress_health_check=list(HealthCheck),
)
SEEDS = st.integers(0, 2**32)

PATTERNS = ("pq,pr,qs->pqrs", "pq->pq", "p,pq->pq", ",pq,pr,qs->pqrs", "pq,ps,pr->pqrs", "->pqrs")
OPERANDS = ("x", "y", "y**2", "x**-1/2", "exp(x)", "d(y)", "eps**-1", "log(y)", "sigmoid(x)")
SHAPES = ("m n", "... n", "#m n", "4 n", "m", "", "m m", "... m n")
CONDITIONS = ("m >= n", "m == 4 * n", "eps > 0", "m < n + 1", "m % 2 == 0")
TARGETS = (
    "softmax", "weighted_sum >> softmax", "specs/softmax.py::softmax", "relu(weighted_sum('x', 'w', 'b'))",
    "cross_entropy(softmax('z'), 'y') + l2('z')", "specs", "softmax.py",
)  # fmt: skip
GLOBS = ("specs/*.py", "**/*.py", "[a-z]*.py", "specs", "{a,b}.py")
PIECES = (
    "->", ",", "p", "q", "*", "**", "(", ")", "[", "]", " ", ".", "...", "#", "-", "/", "0", "1e400",
    "9" * 30, ">>", "::", ".py", "'", '"', "\0", "\n", "\\", "é", "∂", "💥", "lambda: 0", "__import__('os')",
    "%", "d(", "exp", "=", "==", "<", "{", "}", "~", "|", "\ud800", "{0}", "%s", "None", "x" * 300,
)  # fmt: skip


def mangled(rng: random.Random, seeds: tuple[str, ...]) -> str:
    """A well-formed text with a few pieces inserted, dropped, doubled or exchanged."""
    text = rng.choice(seeds)
    for _ in range(rng.randrange(1, 5)):
        at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        piece = rng.choice((rng.choice(PIECES), text[at:to], rng.choice(seeds)))
        cut = rng.choice((at, at, to))
        text = text[:at] + piece + text[cut:]
    return text[:2000]


def only_our_errors(act: Callable[[], Any], *what: object) -> bool:
    """Whether it was understood; anything but a `GradcheckError` is a failure, with its input."""
    try:
        act()
    except GradcheckError as error:
        text = str(error).strip()
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} for {what!r}") from error
    else:
        return True
    assert text, f"an error without a text for {what!r}"
    return False


@FUZZ
@given(SEEDS)
def test_expressions(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH // 2):
        pattern = mangled(rng, PATTERNS)
        operands = [
            delta if rng.random() < 0.4 else mangled(rng, OPERANDS) if rng.random() < 0.5 else "x"
            for _ in range(rng.randrange(4))
        ]
        only_our_errors(lambda: _spec(einsum(pattern, *operands)), pattern, operands)  # noqa: B023


@FUZZ
@given(SEEDS)
def test_operands_of_a_right_pattern(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH // 2):
        name = mangled(rng, OPERANDS)
        only_our_errors(lambda: _spec(einsum("pq,pr,qs->pqrs", name, delta, delta)), name)  # noqa: B023


@FUZZ
@given(SEEDS)
def test_shapes_and_sizes(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH):
        shape, below = mangled(rng, SHAPES), mangled(rng, ("n", "7", "m"))
        only_our_errors(lambda: real(shape), shape)  # noqa: B023
        only_our_errors(lambda: labels(shape, below=below), shape, below)  # noqa: B023
        only_our_errors(lambda: integers(shape, 0, 3), shape)  # noqa: B023
        only_our_errors(lambda: einsum("pq->pq", delta) * size(below), below)  # noqa: B023


@FUZZ
@given(SEEDS)
def test_specs_of_mangled_shapes_conditions_and_names(seed: int) -> None:
    rng = random.Random(seed)
    right = einsum("pq,pr,qs->pqrs", "x", delta, delta)
    for _ in range(BATCH // 2):
        shape, where, name = (
            mangled(rng, SHAPES),
            mangled(rng, CONDITIONS),
            mangled(rng, ("x", "y")),
        )
        only_our_errors(lambda: _spec(right, shape=shape), shape)  # noqa: B023
        only_our_errors(lambda: _spec(right, where=where), where)  # noqa: B023
        only_our_errors(lambda: _spec(right, name=name), name)  # noqa: B023


@FUZZ
@given(SEEDS)
def test_targets(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH):
        text = mangled(rng, TARGETS)
        only_our_errors(lambda: resolve([text]), text)  # noqa: B023


# ---------------------------------------------------------------- configurations


def value(rng: random.Random, depth: int = 0) -> Any:
    """Some value of TOML, often of the right kind and a little off."""
    plain = (
        True, False, 0, 1, -1, 2**70, 1.5, float("nan"), float("inf"), "", " ", "proved", "torch", "quick",
        "2026-12-31", datetime.date(2026, 12, 31), datetime.datetime(2026, 1, 1), datetime.time(1),
        mangled(rng, GLOBS),
    )  # fmt: skip
    draw = rng.random()
    if depth > 2 or draw < 0.5:
        return rng.choice(plain)
    if draw < 0.75:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = ("claim", "input", "oracle", "reason", "until", mangled(rng, tuple(_KEYS)))
    return {rng.choice(keys): value(rng, depth + 1) for _ in range(rng.randrange(7))}


@FUZZ
@given(SEEDS)
def test_tables(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH):
        keys = [k if rng.random() < 0.8 else mangled(rng, (k,)) for k in rng.sample(list(_KEYS), 3)]
        table = {key: value(rng) for key in keys}
        only_our_errors(lambda: parse(table), table)  # noqa: B023


@FUZZ
@given(SEEDS)
def test_requirements(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH):
        words = [mangled(rng, ("torch", "symbolic", "cuda:0", "cpu")) for _ in range(2)]
        table = {mangled(rng, GLOBS): rng.choice(("proved", "agrees", "no", words[0]))}
        own = {"require": words, "require_devices": words, "require_verdict": table}
        for key, item in own.items():
            only_our_errors(lambda: gate(**{key: item}), key, item)  # noqa: B023


def test_files_of_toml(tmp_path: Path) -> None:
    right = (
        '[tool.gradcheck]\nspecs = ["specs/*.py"]\nseed = 3\nrequire_verdict = { "a" = "proved" }\n'
    )
    rng, path = random.Random(0), tmp_path / "pyproject.toml"
    for _ in range(500):
        text = mangled(rng, (right,))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        only_our_errors(lambda: read(path), text)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_patterns_of_files(tmp_path: Path) -> None:
    """Within one folder: a pattern that climbs out of it could walk the whole disk."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.py").touch()
    rng = random.Random(0)
    for _ in range(1000):
        pattern = mangled(rng, GLOBS).replace("/", "", 1).replace("..", "")
        if not pattern.startswith("/"):
            only_our_errors(lambda: spec_files([pattern], tmp_path), pattern)  # noqa: B023


def test_the_test_would_notice() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        only_our_errors(lambda: 1 / 0, "nothing")
    rng = random.Random(0)
    understood = [only_our_errors(lambda: real(mangled(rng, SHAPES))) for _ in range(200)]
    assert 10 < sum(understood) < 190, "both outcomes occur"


def _spec(
    expression: Expression, *, shape: str = "m n", where: str | None = None, name: str = "x"
) -> Spec:
    return Spec(
        lambda _xp, x: x * x,
        inputs={name: real(shape)},
        output={"y": shape},
        jacobian={name: expression},
        where=where,
    )
