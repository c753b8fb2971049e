from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck import Spec, load, verify

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "iris_jacobians.py"
LOCAL = {"∂L/∂a", "∂a/∂z", "∂z/∂x", "∂z/∂w", "∂z/∂b"}
COMPOSED = {"∂a/∂x", "∂a/∂w", "∂a/∂b", "∂L/∂z", "∂L/∂x", "∂L/∂w", "∂L/∂b"}

pytest.importorskip("autograd")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def iris() -> ModuleType:
    spec = importlib.util.spec_from_file_location("iris_jacobians", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def arrays(iris):
    return iris.draw(0)


@pytest.fixture(scope="module")
def rows(iris, arrays):
    return iris.table(arrays)


class TestTable:
    def test_every_jacobian_has_a_row(self, rows):
        assert {r.name for r in rows if not r.composed} == LOCAL
        assert {r.name for r in rows if r.composed} == COMPOSED

    def test_mape_of_every_jacobian_against_autograd(self, rows):
        for row in rows:
            assert row.einsum <= 1e-14, row
            assert row.vectorised <= 1e-14, row

    def test_shapes_are_those_of_the_notebook(self, rows):
        shapes = {r.name: r.shape for r in rows}
        assert shapes["∂a/∂z"] == (150, 3, 150, 3)
        assert shapes["∂z/∂w"] == (150, 3, 4, 3)
        assert shapes["∂z/∂b"] == (150, 3, 3)
        assert shapes["∂L/∂b"] == (3,)

    def test_another_seed_gives_other_weights(self, iris):
        assert not np.array_equal(iris.draw(0)["w"], iris.draw(1)["w"])
        assert np.array_equal(iris.draw(1)["w"], iris.draw(1)["w"])

    @pytest.mark.parametrize("name", ["∂a/∂z", "∂L/∂w", "∂a/∂x"])
    def test_a_wrong_formula_shows(self, iris, arrays, name):
        true = iris.truths(arrays)[name]
        assert iris.mape(-true, true) > 1e-3
        assert iris.mape(iris.vectorised(arrays)[name] * (1 + 1e-9), true) > 1e-14


class TestMape:
    def test_is_a_fraction_of_each_entry(self, iris):
        assert iris.mape(np.array([1.1, 2.0]), np.array([1.0, 4.0])) == pytest.approx(0.3)

    def test_counts_the_value_itself_where_the_truth_is_zero(self, iris):
        assert iris.mape(np.array([0.5, 1.0]), np.array([0.0, 1.0])) == 0.25


class TestVerification:
    def test_covers_the_specs_and_the_chain_on_iris(self, iris, arrays):
        reports = iris.verified(arrays)
        assert [r.ok for r in reports] == [True] * 4
        checks = [c for r in reports for c in r.checks]
        assert {(c.claim, c.input) for c in checks} >= {("softmax", "z"), ("weighted_sum", "w")}
        numerical = {"autograd", "jax", "torch", "native", "differences"}
        assert {c.verdict for c in checks if c.oracle in numerical} == {"agrees"}
        assert {c.verdict for c in checks} <= {"agrees", "identity", "proved"}

    def test_a_wrong_softmax_is_refuted_on_iris(self, arrays):
        right = load("softmax")
        wrong = Spec(
            right.forward,
            inputs=right.inputs,
            output={"a": "m n"},
            jacobian={"z": 2 * right.jacobian["z"]},
        )
        report = verify(wrong, data={"z": arrays["z"]}, oracles=["autograd"])
        assert report.exit_code == 1


class TestProgram:
    def test_runs_as_a_program(self):
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), "--seed", "2"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=_environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("exit 0") == 4
        assert "refuted" not in done.stdout
        assert "MAPE against autograd" in done.stdout
        assert all(name in done.stdout for name in LOCAL | COMPOSED)
        assert "202,500" in done.stdout


def _environment() -> dict[str, str]:
    root = str(EXAMPLE.parent.parent)
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"}
