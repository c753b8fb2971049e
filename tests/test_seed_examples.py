"""The examples that follow the seeds' notebooks, and what docs/seeds.md says of their slips."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck import Spec, load, verify
from gradcheck.cli import main as command
from gradcheck.library import resolve

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SLIPS = ("softmax_rule", "missing_brackets", "any_targets")

pytest.importorskip("sklearn")


def module(name: str) -> ModuleType:
    """An example as a module, without running it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def verdicts(operation, oracles=("differences",), **options):
    report = verify(operation, oracles=oracles, profile="quick", **options)
    return report, {str(c.verdict) for c in report.checks}


# ---------------------------------------------------------------- multiclass_torch


@pytest.fixture(scope="module")
def multiclass():
    pytest.importorskip("torch")
    return module("multiclass_torch")


@pytest.fixture(scope="module")
def trained(multiclass):
    data = multiclass.make_data()
    return data, multiclass.train(data)


class TestMulticlass:
    def test_data_are_those_of_the_notebook(self, multiclass):
        import torch

        data = multiclass.make_data()
        assert (data.x.shape, data.y.shape) == ((100, 5), (100, 3))
        assert (data.x_valid.shape, data.y_valid.shape) == ((10_000, 5), (10_000, 3))
        assert (data.x.dtype, data.y.dtype) == (torch.float64, torch.float32)
        assert [len(x) for x, _ in data.batches()] == [33, 33, 33, 1]

    def test_traces_are_identical_to_four_decimals(self, multiclass, trained):
        _, runs = trained
        assert {len(run.trace) for run in runs.values()} == {16}
        assert multiclass.identical(runs)
        for run in runs.values():
            assert run.trace == runs["library"].trace
        assert runs["library"].trace[-1].ce < runs["library"].trace[0].ce

    def test_parameters_end_within_1e_14(self, multiclass, trained):
        data, runs = trained
        found = multiclass.distances(runs, data)
        assert set(found) == {
            (n, what) for n in ("compiled", "dense") for what in ("predictions", "w", "b")
        }
        assert max(found.values()) < 1e-14, found

    def test_a_wrong_update_is_seen_in_the_traces(self, multiclass, trained):
        data, runs = trained
        wrong = multiclass.Compiled(*_start(multiclass))
        right = wrong.gradient
        wrong.gradient = lambda **v: {n: 1.001 * g for n, g in right(**v).items()}
        assert not multiclass.identical({"wrong": multiclass.fit(wrong, data), **runs})

    def test_float32_targets_are_cast_exactly(self, multiclass):
        import torch

        data = multiclass.make_data()
        w, b = _start(multiclass)
        gradient = multiclass.classifier.gradient("w", "b")
        mixed = gradient(x=data.x, w=w, b=b, y=data.y)
        wide = gradient(x=data.x, w=w, b=b, y=data.y.double())
        for name in ("w", "b"):
            assert mixed[name].dtype == torch.float64
            assert torch.equal(mixed[name], wide[name])

    def test_a_device_that_is_absent_is_named(self, multiclass, capsys):
        with pytest.raises(SystemExit) as exit_:
            multiclass.usable("cuda:97")
        assert exit_.value.code == 2
        assert "--device cuda:97: torch has no device 'cuda:97' here" in capsys.readouterr().err

    @pytest.mark.gpu
    def test_trains_on_a_gpu(self, multiclass):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")
        data = multiclass.make_data("cuda")
        runs = multiclass.train(data)
        assert multiclass.identical(runs)
        assert runs["compiled"].model.w.device.type == "cuda"
        assert max(multiclass.distances(runs, data).values()) < 1e-13


def _start(multiclass):
    import torch

    torch.manual_seed(multiclass.SEED)
    layer = torch.nn.Linear(multiclass.FEATURES, multiclass.CLASSES, dtype=torch.float64)
    return layer.weight.detach().T.clone(), layer.bias.detach().clone()


# ---------------------------------------------------------------- keras_parity


@pytest.fixture(scope="module")
def parity():
    return module("keras_parity")


class TestKronecker:
    @pytest.fixture
    def forms(self, parity):
        rng = np.random.default_rng(1)
        return parity.kronecker(rng.normal(size=(7, 5)), rng.normal(size=(5, 3)), np.zeros(3))

    def test_each_order_belongs_to_one_layout(self, forms):
        assert list(forms.values()) == [True, False, True, False, True]

    def test_wrong_order_gives_a_wrong_gradient_of_the_right_shape(self, parity):
        rng = np.random.default_rng(1)
        x, v = rng.normal(size=(7, 5)), rng.normal(size=(7, 3))
        right = parity.weighted_sum.vjp("w")(v, x=x, w=np.zeros((5, 3)), b=np.zeros(3))["w"]
        by_rows = (v.reshape(-1) @ np.kron(x, np.eye(3))).reshape(5, 3)
        mixed = (v.reshape(-1) @ np.kron(np.eye(3), x)).reshape(5, 3)
        assert parity.mape(by_rows, right) < 1e-14
        assert parity.mape(mixed, right) > 0.1

    def test_one_column_does_not_fit_into_the_weights(self):
        torch = pytest.importorskip("torch")
        with pytest.raises(RuntimeError):
            torch.zeros(5, 3).copy_(torch.arange(5.0))
        square = torch.zeros(3, 3).copy_(torch.arange(3.0))
        assert torch.equal(square, torch.arange(3.0).expand(3, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestKeras:
    @pytest.fixture(scope="class")
    def found(self, parity):
        pytest.importorskip("keras")
        return parity.compare(parity.make_data())

    def test_one_step_and_ten_epochs_agree(self, found):
        assert max(found.distances.values()) < 1e-14, found.distances
        assert {"w after one step", "b after one step", "w after 10 epochs"} <= set(found.distances)
        assert len(found.ours) == len(found.theirs) == 10

    @pytest.mark.usefixtures("found")
    def test_default_float_type_is_put_back(self, parity):
        import keras

        before = keras.config.floatx()
        with parity.keras_in_float64():
            assert keras.config.floatx() == "float64"
        assert keras.config.floatx() == before == "float32"

    def test_float32_default_moves_the_learning_rate(self):
        keras = pytest.importorskip("keras")
        rate = keras.optimizers.SGD(learning_rate=0.01).learning_rate
        assert 1e-8 < abs(float(rate) - 0.01) / 0.01 < 1e-7


# ---------------------------------------------------------------- sigmoid_softmax_iris


@pytest.fixture(scope="module")
def regressor():
    return module("sigmoid_softmax_iris")


def drawn(seed, *, soft=False):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.ones(3), size=8) if soft else np.eye(3)[rng.integers(3, size=8)]
    x, w, b = rng.uniform(size=(8, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    return {"x": x, "w": w, "b": b, "y": y}


class TestNotebookRule:
    def test_refuted_with_a_small_counterexample(self, regressor):
        report, found = verdicts(regressor.notebook_rule)
        assert found == {"refuted"}
        counterexample = report.checks[0].counterexample
        assert counterexample.sizes == {"m": 1, "n": 2}
        assert sorted(counterexample.inputs["y"][0]) == [0.0, 1.0]

    def test_refuted_for_soft_targets_too(self, regressor):
        assert verdicts(regressor.notebook_rule_soft)[1] == {"refuted"}

    def test_right_rule_agrees(self, regressor):
        report, found = verdicts(regressor.right_rule)
        assert report.ok
        assert found == {"agrees"}

    @pytest.mark.parametrize("seed", range(5))
    def test_claim_is_what_the_code_computes(self, regressor, seed):
        arrays = drawn(seed)
        code = regressor.notebook_update(**arrays)
        assert regressor.gap(regressor.wrong_gradient(**arrays), code) < 1e-12
        assert regressor.gap(regressor.right_gradient(**arrays), code) > 1e-2

    @pytest.mark.parametrize("seed", range(5))
    def test_wrong_by_the_ratio_of_two_probabilities(self, regressor, seed):
        arrays = drawn(seed)
        z = load("weighted_sum").value(x=arrays["x"], w=arrays["w"], b=arrays["b"])
        a = regressor.predict.value(**{n: arrays[n] for n in "xwb"})
        wrong = regressor.notebook_rule.gradient("z")(z=z, y=arrays["y"])["z"]
        right = regressor.right_rule.gradient("z")(z=z, y=arrays["y"])["z"]
        ratio = a / a[arrays["y"] == 1][:, None]
        np.testing.assert_allclose(wrong, right * ratio, rtol=1e-11)
        assert np.all(wrong * right > 0)

    def test_code_fails_on_soft_targets(self, regressor):
        with pytest.raises(ValueError, match="broadcast"):
            regressor.notebook_update(**drawn(0, soft=True))

    def test_notebooks_own_input_hides_it(self, regressor):
        assert regressor.comparisons()["its code and the right rule, weights of 1"] < 1e-11

    def test_command_line_exits_with_1_and_0(self):
        file = str(EXAMPLES / "sigmoid_softmax_iris.py")
        flags = ["--oracle", "differences", "--profile", "quick", "--dtype", "float64"]
        for name, code in (("notebook_rule", 1), ("notebook_rule_soft", 1), ("right_rule", 0)):
            with pytest.raises(SystemExit) as exit_:
                command(["verify", f"{file}::{name}", *flags])
            assert exit_.value.code == code, name


class TestIrisTraining:
    def test_data_are_scaled_by_the_whole_array(self, regressor):
        x, y = regressor.iris()
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert (x.shape, y.shape) == ((150, 4), (150, 3))
        assert np.count_nonzero(x.max(axis=0) == 1.0) == 1

    def test_both_losses_fall_and_the_wrong_one_slower(self, regressor):
        runs = regressor.train(*regressor.iris(), epochs=400)
        for run in runs.values():
            assert np.all(np.diff(run.losses) < 0)
        assert runs["right"].losses[0] == runs["notebook"].losses[0]
        assert runs["right"].losses[-1] < runs["notebook"].losses[-1]
        assert min(runs["right"].losses) > np.log(np.e + 2) - 1

    def test_says_when_the_right_rule_is_not_ahead_yet(self, regressor):
        runs = regressor.train(*regressor.iris(), epochs=100)
        assert runs["right"].losses[-1] > runs["notebook"].losses[-1]
        assert regressor.slower(runs).startswith("after epoch 99 the notebook's loss is still")

    def test_short_last_batch_is_trained_with(self, regressor):
        seen = []

        def gradient(**given):
            seen.append(len(given["x"]))
            return 0.0, {"w": 0 * given["w"], "b": 0 * given["b"]}

        regressor.fit(gradient, *regressor.iris(), epochs=1, batch=40)
        assert seen == [40, 40, 40, 30]

    def test_stops_after_ten_epochs_without_a_smaller_loss(self, regressor):
        values = iter([3.0, 2.0, 1.0, *[1.5] * 50])

        def gradient(**given):
            return next(values), {"w": 0 * given["w"], "b": 0 * given["b"]}

        run = regressor.fit(gradient, *regressor.iris(), epochs=50)
        assert len(run.losses) == 3 + 10


# ---------------------------------------------------------------- other slips


class TestSlips:
    @pytest.mark.parametrize("name", SLIPS)
    def test_slip_is_refuted(self, name):
        (target,) = resolve([f"{EXAMPLES / 'seed_slips.py'}::{name}"])
        oracles = ("symbolic", "exact", "differences")
        assert verdicts(target.operation, oracles)[1] == {"refuted"}

    def test_verdicts_of_the_page_are_those_of_the_tool(self, monkeypatch):
        monkeypatch.chdir(ROOT)
        page = Path("docs/seeds.md").read_text(encoding="utf-8")
        row = re.compile(r"^\|.*\| `([^`|]+)`[^|]* \| \**(proved|refuted)\** \|$", re.MULTILINE)
        rows = row.findall(page)
        assert len(rows) == 12
        for name, verdict in rows:
            for target in resolve([name]):
                assert verdicts(target.operation, ("symbolic",))[1] == {verdict}, name

    def test_pattern_of_the_softmax_rule_is_named(self):
        (target,) = resolve([f"{EXAMPLES / 'seed_slips.py'}::softmax_rule"])
        report, _ = verdicts(target.operation)
        assert report.checks[0].counterexample.pattern == "p = r, q ≠ s"

    def test_file_holds_nothing_else(self):
        assert {t.name for t in resolve([str(EXAMPLES / "seed_slips.py")])} == set(SLIPS)

    def test_closed_form_needs_rows_that_sum_to_one_and_no_more(self):
        closed = load("softmax_cross_entropy")
        assert isinstance(closed, Spec)
        assert closed.inputs["y"].kind == "probability"
        assert verdicts(closed)[1] == {"agrees"}

    def test_plain_softmax_overflows_and_the_spec_does_not(self):
        z = np.array([[800.0, 0.0]])
        with np.errstate(all="ignore"):
            assert np.isnan(np.exp(z) / np.exp(z).sum()).any()
        assert load("softmax").value(z=z).tolist() == [[1.0, 0.0]]

    def test_a_gradient_one_on_the_left_has_the_wrong_shape(self):
        with pytest.raises(ValueError, match="mismatch"):
            np.ones((4, 1)) @ np.ones((4, 3))
        matrix = np.arange(6.0).reshape(2, 3)
        sums = matrix.sum(axis=1, keepdims=True)
        assert np.array_equal(matrix @ np.ones((3, 3)), np.broadcast_to(sums, (2, 3)))

    def test_commented_lines_of_the_notebook_swap_two_classes(self):
        s = np.array([0.2, 0.5, 0.9])
        a = np.exp(s) / np.exp(s).sum()
        jacobian = (np.eye(3) - a[None, :]) * a[:, None]
        right = load("sigmoid") >> load("softmax") >> load("cross_entropy")
        z, y = np.log(s / (1 - s))[None], np.array([[1.0, 0.0, 0.0]])
        true = right.gradient("z")(z=z, y=y)["z"][0]
        slope, first = s * (1 - s), -1 / a[0]
        assert slope[0] * jacobian[0, 0] * first == pytest.approx(true[0], rel=1e-12)
        assert slope[2] * jacobian[0, 0] * first != pytest.approx(true[0], rel=1e-2)
        assert slope[2] * jacobian[0, 2] * first == pytest.approx(true[2], rel=1e-12)
        assert slope[0] * jacobian[0, 2] * first != pytest.approx(true[2], rel=1e-2)


# ---------------------------------------------------------------- command lines and notebooks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs", "flags"),
    [
        ("multiclass_torch", "torch", ["--epochs", "2"]),
        ("sigmoid_softmax_iris", "autograd", ["--epochs", "200"]),
        ("keras_parity", "keras", ["--epochs", "2"]),
    ],
)
def test_script_runs_and_draws(name, needs, flags, tmp_path):
    pytest.importorskip(needs)
    pytest.importorskip("matplotlib")
    words = [sys.executable, str(EXAMPLES / f"{name}.py"), *flags, "--plot", "curves.png"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before, _, after = done.stdout.partition("epoch")
    assert "proved by symbolic; agrees by" in before
    assert after
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def builder():
    return module("build_notebooks")


def notebook(builder, name):
    return json.loads((builder.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


NAMES = ("iris_jacobians", "multiclass_torch", "keras_parity", "sigmoid_softmax_iris")


class TestNotebooks:
    def test_every_example_has_one(self, builder):
        assert builder.NAMES == NAMES
        assert {p.stem for p in builder.FOLDER.glob("*.ipynb")} == set(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_cells_are_the_scripts(self, builder, name):
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        there = [(c["cell_type"], "".join(c["source"])) for c in notebook(builder, name)["cells"]]
        assert there == [tuple(cell) for cell in builder.cells_of(text)]

    @pytest.mark.parametrize("name", NAMES)
    def test_executed_in_order_without_errors_and_light(self, builder, name):
        book = notebook(builder, name)
        code = [c for c in book["cells"] if c["cell_type"] == "code"]
        assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
        outputs = [o for c in code for o in c["outputs"]]
        assert outputs
        assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
        assert {k for o in outputs for k in o.get("data", {})} <= {"text/plain", "image/png"}
        assert sum("image/png" in o.get("data", {}) for o in outputs) <= 1
        assert len(json.dumps(book)) < 150_000

    def test_markers(self, builder):
        text = '"""Title.\n\nMore.\n"""\n\n# %%\nx = 1\n\n# %% [markdown]\n# Words\n#\n# more.\n\n'
        text += "# %% [notebook]\n# print(x)\n\n# %% [script]\nprint(2)\n"
        assert [tuple(c) for c in builder.cells_of(text)] == [
            ("markdown", "# Title.\n\nMore."),
            ("code", "x = 1"),
            ("markdown", "Words\n\nmore."),
            ("code", "print(x)"),
        ]

    def test_a_cell_in_comments_holds_only_comments(self, builder):
        with pytest.raises(ValueError, match=r"a line that is none: 'print\(2\)'"):
            builder.cells_of('"""T."""\n\n# %% [notebook]\n# print(1)\nprint(2)\n')

    def test_a_script_without_markers_ends_in_its_call(self, builder):
        text = '"""T."""\n\nimport sys\n\n\ndef f():\n    pass\n\n\nif __name__ == "__main__":\n    f()\n'
        cells = [tuple(c) for c in builder.cells_of(text)]
        assert cells[1:] == [("code", "import sys\n\n\ndef f():\n    pass"), ("code", "main([])")]

    def test_times_and_rounding_do_not_count_and_other_numbers_do(self, builder):
        steady = builder.steady
        row = "softmax  z  torch  agrees  8  {}  {} s"
        assert steady(row.format("0.02", "0.31")) == steady(row.format("1.4e-02", "<0.01"))
        assert steady("MAPE of w 4.2e-16") == steady("MAPE of w 1.11e-15")
        assert steady("MAPE of w 4.2e-16") != steady("MAPE of w 4.2e-06")
        assert steady("0  1.3375") != steady("0  1.3376")
        assert steady("refuted  3") != steady("agrees  3")
        assert steady("seed 0, 7.2 s") != steady("seed 1, 7.2 s")

    def test_a_changed_output_is_shown_and_a_changed_width_is_not(self, builder):
        old = {"outputs": [{"text": "epoch 0: 1.3375\nworst of all\nin 3 s"}]}
        same = {"outputs": [{"text": "epoch 0: 1.3375\nworst\nof all in 12 s"}]}
        other = {"outputs": [{"text": "epoch 0: 1.3376\nworst of all\nin 3 s"}]}
        assert builder.changed(old, same) == []
        assert builder.changed(old, other)[1:] == ["-epoch 0: 1.3375", "+epoch 0: 1.3376"]
        assert builder.changed(old, {"outputs": []})

    def test_a_changed_cell_is_found(self, builder, tmp_path, monkeypatch):
        pytest.importorskip("nbformat")
        path = tmp_path / "iris_jacobians.ipynb"
        text = (builder.FOLDER / path.name).read_text(encoding="utf-8")
        path.write_text(re.sub(r"SCALE = 0\.1\b", "SCALE = 0.2", text), encoding="utf-8")
        monkeypatch.setattr(builder, "FOLDER", tmp_path)
        assert builder.differences("iris_jacobians") == ["cell 1 is not the script's"]
        assert builder.differences("keras_parity") == ["keras_parity.ipynb is not there"]
