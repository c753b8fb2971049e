"""Verdicts, runs and their reproducibility, and the bound in both directions."""

from __future__ import annotations

import gc
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from gradcheck import (
    Spec,
    backends,
    delta,
    einsum,
    load,
    ones,
    real,
    verify,
)
from gradcheck.checking import executing
from gradcheck.checking.compare import compare
from gradcheck.checking.problem import Problem
from gradcheck.checking.search import Example
from gradcheck.errors import ShapeError, UsageError, VerificationFailed
from gradcheck.library import resolve
from gradcheck.oracles import Answer, Oracle

GALLERY = Path(__file__).parent.parent / "examples" / "specs"
softmax, cross_entropy, relu = load("softmax"), load("cross_entropy"), load("relu")
CHEAP = {"oracles": ["differences"], "profile": "quick"}


def only(report):
    (check,) = report.checks
    return check


def cube(term):
    return Spec(
        lambda xp, x: xp.sum(x * x * x),
        inputs={"x": real("n")},
        output={"y": ""},
        jacobian={"x": term},
        name="cube",
    )


right_cube = cube(3 * einsum("p->p", "x**2"))
wrong_cube = cube(3 * einsum("p->p", "x"))


# ---------------------------------------------------------------- verdicts


def test_agreement_and_refutation():
    agreed = verify(right_cube, **CHEAP)
    assert (str(only(agreed).verdict), agreed.exit_code, agreed.ok) == ("agrees", 0, True)
    assert only(agreed).examples > 0
    refuted = verify(wrong_cube, **CHEAP)
    assert (str(only(refuted).verdict), refuted.exit_code) == ("refuted", 1)
    with pytest.raises(VerificationFailed, match="cube"):
        refuted.raise_on_failure()
    agreed.raise_on_failure()


def test_nothing_to_compare_is_undecided_and_counted():
    logs = Spec(
        lambda xp, x: xp.log(x),
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": einsum("p,pq->pq", "x**-1", delta)},
    )
    report = verify(logs, **CHEAP, data={"x": -np.ones(2)})
    assert str(only(report).verdict) == "undecided"
    assert "no example could be compared: 1 × the forward is not finite" in only(report).reason
    assert report.exit_code == 3


def test_check_that_could_not_have_failed_is_undecided():
    both = Spec(
        lambda _, x: x * x + x,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": 2 * einsum("p,pq->pq", "x", delta) + einsum("pq->pq", delta)},
    )
    check = only(verify(both, **CHEAP, data={"x": np.zeros(2)}))
    assert str(check.verdict) == "undecided"
    assert (
        "could not have failed: it would also accept the claim with the sign of term 1"
        in check.reason
    )
    assert str(only(verify(both, **CHEAP)).verdict) == "agrees"


def test_forward_that_cannot_run_is_an_error_that_names_the_line():
    broken = replace_forward(lambda xp, x: xp.softplus(x))
    check = only(verify(broken, **CHEAP))
    assert str(check.verdict) == "error"
    assert "xp.softplus is not in the documented list" in check.reason

    def crash(_xp, _x):
        raise RuntimeError("no luck")

    check = only(verify(replace_forward(crash), **CHEAP))
    assert "RuntimeError: no luck" in check.reason
    assert "test_verify.py:" in check.reason


def replace_forward(forward):
    jacobian = {"x": einsum("p->p", ones)}
    return Spec(forward, inputs={"x": real("n")}, output={"y": ""}, jacobian=jacobian)


def test_framework_that_is_not_installed_is_skipped_and_named(monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda: ["numpy"])
    report = verify(right_cube, oracles=["torch", "differences"], profile="quick")
    assert [str(c.verdict) for c in report.checks] == ["skipped", "agrees"]
    assert 'pip install "gradcheck[torch]"' in report.checks[0].reason
    assert report.exit_code == 0  # covered by differences
    everything = verify(right_cube, profile="quick")
    names = {c.oracle for c in everything.checks}
    assert "differences" in names
    assert not names & {"autograd", "jax", "torch", "tensorflow", "native"}
    assert any("torch is not installed" in note for note in everything.notes)
    required = verify(right_cube, profile="quick", require="torch")
    assert required.exit_code == 3
    assert any("required oracle torch" in problem for problem in required.problems)


def test_native_that_computes_another_function_is_refuted():
    torch = pytest.importorskip("torch")
    doubled = Spec(
        softmax.forward,
        inputs=softmax.inputs,
        output={"a": "m n"},
        jacobian=softmax.jacobian,
        native={"torch": lambda z: torch.softmax(2 * z, -1)},
    )
    check = only(verify(doubled, oracles=["native"], profile="quick"))
    assert str(check.verdict) == "refuted"
    assert "the native implementation computes another function" in check.reason


def test_claim_that_overflows_is_refuted_as_such():
    def softplus(xp, z):
        e = xp.exp(z)
        return xp.logaddexp(z, 0 * z), e, 1 / (1 + e)

    naive = Spec(
        softplus,
        inputs={"z": real("n")},
        output={"y": "n", "e": "n", "t": "n"},
        jacobian={"z": einsum("p,p,pq->pq", "e", "t", delta)},
    )
    check = only(verify(naive, **CHEAP, data={"z": np.array([1.0, 1000.0])}))
    assert str(check.verdict) == "refuted"
    assert check.reason == "the claim overflows where the derivative is finite"
    assert str(only(verify(naive, **CHEAP, data={"z": np.array([1.0, 2.0])})).verdict) == "agrees"


@pytest.mark.parametrize(
    ("at_zero", "verdict"),
    [
        (0, "agrees"),
        (0.5, "agrees"),
        (1, "agrees"),
        (2, "refuted"),
        (-1, "refuted"),
        (1.001, "refuted"),
    ],
)
@pytest.mark.parametrize("oracle", ["torch", "jax"])
def test_at_a_kink_every_derivative_between_the_two_is_right(at_zero, verdict, oracle):
    pytest.importorskip(oracle)

    def rectified(xp, z):
        return xp.maximum(z, 0), xp.where(z > 0, 1.0, xp.where(z < 0, 0.0, at_zero))

    spec = Spec(
        rectified,
        inputs={"z": real("n")},
        output={"h": "n", "t": "n"},
        jacobian={"z": einsum("p,pq->pq", "t", delta)},
    )
    check = only(verify(spec, oracles=[oracle], data={"z": np.array([0.0, -1.0, 2.0])}))
    assert str(check.verdict) == verdict
    if verdict == "agrees":
        assert check.kinks == 1
    else:
        assert check.counterexample.claim_value == at_zero
        assert check.counterexample.entry == "∂h[0]/∂z[0]"


def test_step_of_the_notation_is_right_at_a_kink_and_wrong_beside_it():
    pytest.importorskip("torch")
    data = {"z": np.array([[0.0, -1.0, 2.0]])}
    check = only(verify(relu, oracles=["torch"], data=data))
    assert (str(check.verdict), check.kinks) == ("agrees", 1)
    mirrored = einsum("pq,pr,qs->pqrs", ones, delta, delta) - relu.jacobian["z"]
    spec = Spec(relu.forward, inputs=relu.inputs, output={"h": "m n"}, jacobian={"z": mirrored})
    check = only(verify(spec, oracles=["torch"], data=data))
    assert str(check.verdict) == "refuted"
    assert "z[0,0]" not in check.counterexample.entry


def test_oracle_that_disagrees_with_the_forward_is_named(monkeypatch):
    honest = Oracle.ask

    def off(self, question, device):
        answer = honest(self, question, device)
        return Answer(answer.value, answer.jacobian * (1 + 1e-6), answer.error)

    monkeypatch.setattr(Oracle, "ask", off)
    pytest.importorskip("torch")
    check = only(verify(softmax, oracles=["torch"], profile="quick"))
    assert str(check.verdict) == "undecided"
    assert check.reason.startswith("torch itself is off at ")


def test_structural_zero_has_no_tolerance():
    # A row of softmax does not depend on another one, not even by so little.
    pytest.importorskip("torch")
    tiny_claim = Spec(
        lambda xp, z: (softmax.forward(xp, z), 1e-30 + 0 * z),
        inputs=softmax.inputs,
        output={"a": "m n", "t": "m n"},
        jacobian={"z": softmax.jacobian["z"] + einsum("pq,rs->pqrs", "t", ones)},
    )
    check = only(verify(tiny_claim, oracles=["torch"], data={"z": np.ones((2, 2))}))
    assert str(check.verdict) == "refuted"
    assert check.counterexample.pattern.startswith("p ≠ r")


# ---------------------------------------------------------------- runs


def summary(report):
    return [
        (c.claim, c.input, c.oracle, str(c.verdict), c.examples, c.worst) for c in report.checks
    ]


def test_same_seed_same_report_other_seed_other_examples():
    first, again = (verify(softmax, **CHEAP, seed=3) for _ in range(2))
    assert summary(first) == summary(again)
    assert first.checks[0].exercised == again.checks[0].exercised
    other = verify(softmax, **CHEAP, seed=4)
    assert summary(other) != summary(first)


def test_new_data_are_looked_at_anew():
    expected = {0.0: "agrees", 1.0: "agrees", 2.0: "refuted"}
    for value in [0.0, 2.0, 1.0, 2.0] * 10:
        check = only(
            verify(wrong_cube, oracles=["differences"], data={"x": np.array([value, 1.0])})
        )
        assert str(check.verdict) == expected[value], value


def test_specs_that_are_gone_are_not_mistaken_for_new_ones():
    pytest.importorskip("jax")
    for k in range(1, 9):
        for claimed in (k, k + 1):
            spec = Spec(
                lambda xp, x, k=k: k * xp.sum(x),
                inputs={"x": real("n")},
                output={"y": ""},
                jacobian={"x": claimed * einsum("p->p", ones)},
            )
            check = only(verify(spec, oracles=["jax"], data={"x": np.ones(2)}))
            assert (str(check.verdict) == "agrees") == (claimed == k)
            del spec


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"oracles": ["tourch"]}, "unknown oracle 'tourch'; did you mean torch?"),
        ({"oracles": "difference"}, "did you mean differences?"),
        ({"require": ["jaxx"]}, "unknown oracle 'jaxx'"),
        ({"wrt": "q"}, "nothing is claimed with respect to 'q'; claimed are: x"),
        ({"devices": "tpu"}, "unknown device 'tpu'; write cpu, cuda"),
        ({"devices": ()}, "no device was named"),
        ({"dtypes": ["float46"]}, "unknown dtype 'float46'; known are float64, float32"),
        ({"profile": "fast"}, "unknown profile 'fast'"),
        ({"profile": "standart"}, "did you mean standard?"),
        ({"data": "no.npz"}, "no.npz does not exist"),
        ({"target": 3}, "3 cannot be verified"),
    ],
)
def test_requests_that_mean_nothing(options, problem):
    with pytest.raises(UsageError) as caught:
        verify(**{"target": right_cube, **options})
    assert problem in str(caught.value)


def test_own_data_by_name_and_from_a_file(tmp_path):
    data = {
        "x": np.array([[0.5, 1.5]]),
        "w": np.eye(2),
        "b": np.zeros(2),
        "y": np.array([[0.25, 0.75]]),
    }
    chain = load("weighted_sum") >> softmax >> cross_entropy
    report = verify(chain, oracles=["differences"], data=data)
    assert [(c.input, str(c.verdict), c.examples) for c in report.checks] == [
        (n, "agrees", 1) for n in "xwb"
    ]
    np.savez(tmp_path / "mine.npz", **data)
    filed = verify(chain, oracles=["differences"], data=tmp_path / "mine.npz")
    assert summary(filed) == summary(report)
    with pytest.raises(UsageError, match="also needs w, b, y"):
        verify(chain, data={"x": data["x"]})
    with pytest.raises(ShapeError, match=r"so n = 3, but x has shape \(1, 2\), so n = 2"):
        verify(chain, data={**data, "w": np.ones((3, 2))})


def test_a_proof_does_not_cover_data_that_nobody_could_compare():
    report = verify(
        softmax, oracles=["symbolic", "differences"], data={"z": np.full((1, 2), np.nan)}
    )
    assert report.exit_code == 3
    assert "nothing could be compared on the data for softmax, z" in report.problems
    whole = verify(
        softmax, oracles=["differences"], data={"z": np.array([[0, 1]]), "extra": np.ones(1)}
    )
    assert whole.ok
    assert "the data also hold extra, which softmax does not take" in whole.notes


def test_data_outside_the_domain_are_remarked_on():
    data = {"a": np.array([[0.5, 0.5]]), "y": np.ones((1, 2))}
    notes = verify(cross_entropy, oracles=["differences"], data=data).notes
    assert any("y lies outside its domain" in n and "a row sums to 2, not to 1" in n for n in notes)


def test_data_file_that_is_none(tmp_path):
    file = tmp_path / "text.npz"
    file.write_text("no archive")
    with pytest.raises(UsageError, match=r"is no \.npz file; write one with numpy.savez"):
        verify(right_cube, data=file)


def test_only_the_inputs_asked_for():
    report = verify(load("weighted_sum"), **CHEAP, wrt=["w", "b"], dtypes=["float64", "float32"])
    assert [(c.input, c.dtype) for c in report.checks] == [
        (n, d) for n in "wb" for d in ("float64", "float32")
    ]


FILE = """
from gradcheck import Spec, einsum, real

def forward(xp, x):
    return xp.sum(x * x)

right = Spec(forward, inputs={"x": real("n")}, output={"y": ""}, jacobian={"x": 2 * einsum("p->p", "x")})
wrong = Spec(forward, inputs={"x": real("n")}, output={"y": ""}, jacobian={"x": einsum("p->p", "x")})
"""


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("specs") / "squares.py"
    file.write_text(FILE, encoding="utf-8")
    return str(file)


def test_other_processes_give_the_same_report(spec_file):
    alone = verify(spec_file, **CHEAP)
    assert [str(c.verdict) for c in alone.checks] == ["agrees", "refuted"]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        pooled = verify(spec_file, **CHEAP, executor=pool)
    shared = verify(spec_file, **CHEAP, jobs=2)
    assert summary(pooled) == summary(shared) == summary(alone)
    assert pooled.checks[1].counterexample == alone.checks[1].counterexample


def test_interrupted_run_reports_what_it_did(monkeypatch):
    ran = []

    def run(planned):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(planned)
        return honest(planned)

    honest = executing.run
    monkeypatch.setattr(executing, "run", run)
    report = verify(load("weighted_sum"), **CHEAP)
    assert report.interrupted
    assert (len(report.checks), report.exit_code, report.ok) == (2, 130, False)


def test_ctrl_c_that_python_would_drop_ends_the_run(monkeypatch):
    """What is raised in a callback of the garbage collector is printed and dropped."""
    ran = []

    def run(planned):
        ran.append(planned)
        gc.collect()
        time.sleep(5)
        return honest(planned)

    def callback(phase, _info):
        if phase == "stop" and len(ran) == 1 and not pressed:
            pressed.append(phase)
            signal.raise_signal(signal.SIGINT)

    pressed, honest, before = [], executing.run, signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(executing, "run", run)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.callbacks.append(callback)
    try:
        report = verify(load("weighted_sum"), **CHEAP)
    finally:
        gc.callbacks.remove(callback)
        after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler
    assert (len(ran), len(report.checks)) == (1, 0)
    assert report.interrupted
    assert report.seconds < 5


# ---------------------------------------------------------------- the bound, in both directions


def gallery(name):
    return resolve([f"{GALLERY / name}.py::{name}"])[0].operation


CASES = {
    "softmax": softmax,
    "cross_entropy": cross_entropy,
    "classifier": load("weighted_sum") >> softmax >> cross_entropy,
    "closed form": load("softmax_cross_entropy"),
    "layer_norm": gallery("layer_norm"),
}
MAGNITUDES = (1.0, 30.0, 100.0, 1000.0)
ORACLES = ("torch", "jax")


def draws(operation, magnitude, dtype, count=6):
    """Examples whose real inputs are of that magnitude: spread, or all near it; sizes 3, 4, 5."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        sizes = dict(zip("mno", (3, 4, 5), strict=True))
        inputs = {}
        for name, domain in operation.inputs.items():
            shape = tuple(sizes[a] for a in domain.shape)
            if domain.kind == "probability":
                drawn = rng.dirichlet(np.ones(shape[-1]) / (1 + seed), shape[0]) + 1e-30
            elif seed % 2:
                drawn = magnitude + rng.normal(size=shape)
            else:
                drawn = magnitude * rng.normal(size=shape)
            if name == "w":  # so that some weighted sums are near each other
                drawn = drawn / magnitude if seed % 3 else rng.normal(size=shape) * 1e-3
            inputs[name] = drawn.astype(dtype).astype(np.float64)
        params = {n: p.simplest() for n, p in operation.params.items()}
        yield Example(inputs, params, operation.sizes_of(inputs))


def evaluated_at(operation, claim, dtype, magnitude):
    problem = Problem(operation, claim, dtype)
    for example in draws(operation, magnitude, dtype):
        evaluated = problem.evaluate(example)
        if evaluated.trouble:
            assert evaluated.trouble == "the forward is not finite"
            continue
        yield problem, example, evaluated


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_right_rule_stays_below_its_bound_and_four_bounds_are_refuted(name, dtype):
    operation, compared = CASES[name], 0
    for oracle in ORACLES:
        pytest.importorskip(oracle)
    for claim in operation.claims():
        for magnitude in MAGNITUDES:
            for problem, example, evaluated in evaluated_at(operation, claim, dtype, magnitude):
                question = problem.question(example, evaluated)
                for oracle in ORACLES:
                    answer = Oracle(oracle, oracle).ask(question, "cpu")
                    compared += hold(evaluated, answer, dtype)
    enough = len(operation.claims()) * len(ORACLES) * len(MAGNITUDES) * 2
    assert compared >= enough, compared


def hold(evaluated, answer, dtype):
    """Whether the two could be compared; then the claim holds, and a spoilt one does not."""
    found = compare(evaluated, answer, dtype)
    if found.skipped:
        assert "finite" in found.skipped
        return False
    assert not found.refutes
    assert not found.outliers
    assert found.worst < 1
    tolerance, spoiled = evaluated.tolerance, 0
    usable = np.where(np.isfinite(tolerance) & np.isfinite(evaluated.claim), tolerance, -1)
    for place in {int(np.argmax(np.abs(evaluated.claim) * (usable > 0))), int(np.argmax(usable))}:
        if usable.flat[place] <= 0:
            continue
        for sign in (1, -1):
            spoilt = evaluated.claim.astype(np.float64).copy()
            spoilt.flat[place] += sign * 4 * tolerance.flat[place]
            assert compare(replace(evaluated, claim=spoilt), answer, dtype).refutes
            spoiled += 1
    return spoiled > 0
