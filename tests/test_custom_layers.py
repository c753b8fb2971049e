"""`examples/custom_layers`: the right layers agree, and the wrong ones are refuted in plain words."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "custom_layers"

# The wrong layer, the argument whose gradient is wrong, and what the report must say of it.
CASES = [
    ("rms_norm_torch", "torch", "RMSNorm", "ForgottenSum", "g", ["The shape is wrong: sum over axis 0"]),
    (
        "cross_entropy_jax", "jax", "cross_entropy", "targets_minus_predictions", "z",
        ["The sign is wrong", "∂out/∂z["],
    ),
    ("dense_numpy", "autograd", "Dense", "AveragedTwice", "w", ["Wrong factor: 1/m", "∂s[", "/∂w["]),
]  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where inspect looks for the source
    spec.loader.exec_module(module)
    return module


def made(module, name):
    """The layer of that name; a class of NumPy objects is made into one."""
    found = getattr(module, name)
    return found(4, 3) if module.__name__ == "dense_numpy" else found


@pytest.mark.parametrize(("file", "framework", "right", "wrong", "argument", "words"), CASES)
def test_right_and_wrong(file, framework, right, wrong, argument, words):
    pytest.importorskip(framework)
    module = load(file)
    report = module.verify(made(module, right))
    assert report.ok, str(report)
    report = module.verify(made(module, wrong))
    assert {c.input for c in report.checks if c.verdict == "refuted"} == {argument}
    text = str(report)
    assert f"Refuted: {wrong}, input {argument} (" in text
    assert f"{file}.py:" in text
    for word in words:
        assert word in text


def test_an_example_prints_both_reports():
    pytest.importorskip("autograd")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "dense_numpy.py")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "6 agrees; 3 claims, 3 covered; exit 0" in done.stdout
    assert "Refuted: AveragedTwice, input w" in done.stdout


def test_torchs_own_checker_passes_the_forgotten_sum():
    torch = pytest.importorskip("torch")
    wrong = load("rms_norm_torch").ForgottenSum
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, g: wrong.apply(x, g, 1e-6), (x, g))
