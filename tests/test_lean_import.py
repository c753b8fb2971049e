"""Importing the package loads no framework and takes no time worth noticing."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"autograd", "jax", "jaxlib", "torch", "tensorflow", "keras"}
HEAVY = {*FRAMEWORKS, "numpy", "hypothesis", "flint", "rich", "opt_einsum"}


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def loaded_by(code: str, modules: set[str]) -> list[str]:
    return run(f"{code}\nimport sys\nprint(*sorted({modules} & set(sys.modules)))").split()


def test_import_loads_nothing_heavy():
    assert loaded_by("import gradcheck", HEAVY) == []
    assert loaded_by("import gradcheck; dir(gradcheck); gradcheck.__version__", HEAVY) == []


def test_the_test_would_notice():
    assert loaded_by("import numpy", HEAVY) == ["numpy"]


@pytest.mark.parametrize(
    "use",
    [
        "from gradcheck import *",
        "load('softmax').dense('z')(z=numpy.ones((2, 3)))",
        "(load('softmax') >> load('cross_entropy')).jacobian['z']",
        "verify('softmax', oracles='differences', profile='quick')",
    ],
)
def test_use_without_a_framework_loads_none(use):
    code = f"import numpy\nfrom gradcheck import load, verify\n{use}"
    assert loaded_by(code, FRAMEWORKS) == []


def test_arrays_of_one_framework_load_no_other():
    pytest.importorskip("torch")
    code = (
        "import torch\nfrom gradcheck import load\nload('softmax').dense('z')(z=torch.ones(2, 3))"
    )
    assert loaded_by(code, {"jax", "autograd", "tensorflow"}) == []


def test_import_takes_less_than_a_fifth_of_a_second():
    code = "import time; start = time.perf_counter(); import gradcheck; print(time.perf_counter() - start)"
    assert min(float(run(code)) for _ in range(5)) < 0.2
