"""A softmax classifier of three classes on torch tensors, trained three times from the same start.

    python examples/multiclass_torch.py
    python examples/multiclass_torch.py --device cuda --plot traces.png

Once with the gradient compiled from the verified specs, once with the dense Jacobians that a
notebook contracts by einsum, and once with torch's own Linear, CrossEntropyLoss and SGD. The losses
and the accuracy of the three are printed side by side: they agree to all four decimals shown in
every epoch, and the parameters at the end to the last digits.

The data are those of the notebook: 10,100 points of 5 features in 3 classes, 100 to train with and
10,000 to validate, in batches of 33, 33, 33 and 1. The targets are one-hot float32 beside float64
data: zeros and ones are exact in both, so the compiled gradient casts them without an error.

Each epoch's CE is the mean over its four batches, as in the notebook. The last batch has one row,
which counts as much there as the 33 of any other: it is a trace to compare, not the loss of the
training set.
"""

# %%
from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck import backends, load, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck import Report

    Tensor = Any

SEED = 0
SAMPLES, FEATURES, CLASSES, TRAIN = 10_100, 5, 3, 100
BATCH, EPOCHS, RATE = TRAIN // 3, 16, 0.01

# %% [markdown]
# ## What is verified first
#
# The three specs and their chain: a proof for all shapes, and on searched inputs, in float64 and in
# float32, against torch's autograd and against differences.

# %%
predict = load("weighted_sum") >> load("softmax")
classifier = load("weighted_sum") >> load("softmax") >> load("cross_entropy")


def verified() -> Report:
    """The report on the specs and on the chain whose gradient is about to be used."""
    targets = ["weighted_sum", "softmax", "cross_entropy", classifier]
    tensorflow = [name for name in backends.installed() if name == "tensorflow"]
    oracles, dtypes = ["symbolic", "torch", *tensorflow, "differences"], ("float64", "float32")
    return verify(targets, oracles=oracles, dtypes=dtypes, profile="quick")


def summary(report: Report) -> str:
    """One line for each claim: which oracles say what."""
    found: dict[str, dict[str, list[str]]] = {}
    for check in report.checks:
        names = found.setdefault(f"{check.claim}, {check.input}", {}).setdefault(check.verdict, [])
        names += [check.oracle] if check.oracle not in names else []
    return "\n".join(
        f"{claim}: " + "; ".join(f"{verdict} by {', '.join(n)}" for verdict, n in said.items())
        for claim, said in found.items()
    )


# %% [notebook]
# report = verified()
# print(summary(report))
# assert report.ok

# %% [markdown]
# ## The data
#
# `make_classification` with a fixed seed. The targets stay float32, as in the notebook.


# %%
@dataclass(frozen=True)
class Data:
    """Rows to train with and rows to validate on, as tensors on one device."""

    x: Tensor
    y: Tensor
    x_valid: Tensor
    y_valid: Tensor

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """The training rows in order, 33 at a time, and the one that is left over."""
        return list(zip(self.x.split(BATCH), self.y.split(BATCH), strict=True))


def make_data(device: str = "cpu", seed: int = SEED) -> Data:
    """The notebook's data: float64 features, float32 one-hot targets."""
    import torch
    from sklearn.datasets import make_classification

    x, labels = make_classification(
        n_samples=SAMPLES,
        n_features=FEATURES,
        n_classes=CLASSES,
        n_informative=FEATURES - 1,
        n_redundant=0,
        random_state=seed,
    )
    x = torch.tensor(x, device=device)
    y = torch.nn.functional.one_hot(torch.tensor(labels, device=device).long(), CLASSES)
    y = y.type(torch.float32)
    return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


# %% [markdown]
# ## Three ways to the same update
#
# `Compiled` contracts the chain of structured Jacobians and never writes an identity matrix.
# `Dense` is the notebook's second class: ∂a/∂z as an array of m × o × m × o entries, ∂z/∂w as a
# Kronecker product. `Library` is torch alone.


# %%
class Model(Protocol):
    """What `fit` asks of a classifier."""

    def parameters(self) -> dict[str, Tensor]:
        """Weights of shape features × classes, and the bias."""

    def update(self, x: Tensor, y: Tensor) -> None:
        """One step of gradient descent on one batch."""


class Compiled:
    """Gradient descent along `chain.gradient("w", "b")`."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        self.w, self.b = w.clone(), b.clone()
        self.gradient = classifier.gradient("w", "b")

    def parameters(self) -> dict[str, Tensor]:
        """Weights of shape features × classes, and the bias."""
        return {"w": self.w, "b": self.b}

    def update(self, x: Tensor, y: Tensor) -> None:
        """One step along the compiled gradient."""
        step = self.gradient(x=x, w=self.w, b=self.b, y=y)
        self.w -= RATE * step["w"]
        self.b -= RATE * step["b"]


class Dense:
    """The notebook's update by dense Jacobians and einsum."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        self.w, self.b = w.clone(), b.clone()

    def parameters(self) -> dict[str, Tensor]:
        """Weights of shape features × classes, and the bias."""
        return {"w": self.w, "b": self.b}

    def update(self, x: Tensor, y: Tensor) -> None:
        """One step along the contracted dense Jacobians."""
        import torch

        a = predict.value(x=x, w=self.w, b=self.b)
        (m, o), rows = y.shape, torch.arange(len(y), device=x.device)
        local = torch.zeros((m, o, m, o), dtype=a.dtype, device=a.device)
        local[rows, :, rows, :] = torch.diag_embed(a) - torch.einsum("ij,ik->ijk", a, a)
        delta = torch.einsum("pq,pqij->ij", -(y / a) / m, local)
        identity = torch.eye(o, dtype=x.dtype, device=x.device)
        by_weight = torch.kron(x[:, None, :, None], identity[None, :, None, :])
        self.b -= RATE * delta.sum(axis=0)
        self.w -= RATE * torch.einsum("pq,pqij->ij", delta, by_weight)


class Library:
    """torch's Linear, CrossEntropyLoss and SGD."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        import torch

        features, classes = w.shape
        self.layer = torch.nn.Linear(features, classes, dtype=w.dtype, device=w.device)
        with torch.no_grad():
            self.layer.weight.copy_(w.T)
            self.layer.bias.copy_(b)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=RATE)

    def parameters(self) -> dict[str, Tensor]:
        """Weights of shape features × classes, and the bias."""
        return {"w": self.layer.weight.detach().T, "b": self.layer.bias.detach()}

    def update(self, x: Tensor, y: Tensor) -> None:
        """One step of torch's own backward pass and optimiser."""
        self.optimizer.zero_grad()
        self.loss(self.layer(x), y).backward()
        self.optimizer.step()

    def evaluate(self, x: Tensor, y: Tensor) -> float:
        """The loss as torch computes it."""
        import torch

        with torch.no_grad():
            return self.loss(self.layer(x), y).item()

    def predict(self, x: Tensor) -> Tensor:
        """The probabilities as torch computes them."""
        import torch

        with torch.no_grad():
            return torch.softmax(self.layer(x), dim=1)


# %% [markdown]
# ## Training and its trace
#
# The loss of `Compiled` and `Dense` is the chain's own value; that of `Library` is torch's.


# %%
@dataclass(frozen=True)
class Epoch:
    """What one epoch came to, to four decimals."""

    ce: float
    ce_valid: float
    accuracy: float


@dataclass(frozen=True)
class Run:
    """One training: its trace, its model and how long it took."""

    model: Model
    trace: list[Epoch]
    seconds: float


def evaluate(model: Model, x: Tensor, y: Tensor) -> float:
    """The cross-entropy of the model on some rows."""
    if isinstance(model, Library):
        return model.evaluate(x, y)
    return classifier.value(x=x, y=y, **model.parameters()).item()


def probabilities(model: Model, x: Tensor) -> Tensor:
    """What the model predicts for some rows."""
    return (
        model.predict(x) if isinstance(model, Library) else predict.value(x=x, **model.parameters())
    )


def fit(model: Model, data: Data, epochs: int = EPOCHS) -> Run:
    """Gradient descent over the batches in order, epoch by epoch."""
    started, trace = time.perf_counter(), []
    for _ in range(epochs):
        losses = []
        for x, y in data.batches():
            losses.append(evaluate(model, x, y))
            model.update(x, y)
        ce_valid = evaluate(model, data.x_valid, data.y_valid)
        hits = probabilities(model, data.x_valid).argmax(1) == data.y_valid.argmax(1)
        numbers = (sum(losses) / len(losses), ce_valid, hits.double().mean().item())
        trace.append(Epoch(*(round(number, 4) for number in numbers)))
    return Run(model, trace, time.perf_counter() - started)


def train(data: Data, epochs: int = EPOCHS, seed: int = SEED) -> dict[str, Run]:
    """The three trainings, from the parameters that torch's Linear starts with."""
    import torch

    torch.manual_seed(seed)
    layer = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64).to(data.x.device)
    w, b = layer.weight.detach().T.clone(), layer.bias.detach().clone()
    kinds = {"compiled": Compiled, "dense": Dense, "library": Library}
    return {name: fit(kind(w, b), data, epochs) for name, kind in kinds.items()}


def side_by_side(runs: dict[str, Run]) -> str:
    """The three traces in one table."""
    lines = [
        "       " + "".join(f"{name:^26}" for name in runs).rstrip(),
        "epoch  " + "    CE     CE_v   acc_v   " * len(runs),
    ]
    for i, epochs in enumerate(zip(*(run.trace for run in runs.values()), strict=True)):
        cells = (f"{e.ce:8.4f}{e.ce_valid:8.4f}{e.accuracy:8.4f}  " for e in epochs)
        lines.append(f"{i:5}  " + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def identical(runs: dict[str, Run]) -> bool:
    """Whether the traces are the same to four decimals in every epoch."""
    first, *others = (run.trace for run in runs.values())
    return all(other == first for other in others)


# %% [notebook]
# data = make_data()
# runs = train(data)
# print(side_by_side(runs))
# print("identical in every epoch:", identical(runs))

# %% [markdown]
# ## How far apart they end
#
# MAPE: the mean over all entries of |t − p| / |t|, and of |p| where t = 0, as a fraction. Around
# 1e-15 is the rounding of the last digits.


# %%
def mape(predicted: Tensor, true: Tensor) -> float:
    """The mean over all entries of |t - p| / |t|, and of |p| where t = 0: a fraction."""
    scale = true.abs()
    scale[true == 0] = 1.0
    return ((true - predicted).abs() / scale).mean().item()


def distances(runs: dict[str, Run], data: Data) -> dict[tuple[str, str], float]:
    """MAPE of predictions, weights and bias of the first two trainings against torch's."""
    library, found = runs["library"].model, {}
    true = {"predictions": probabilities(library, data.x_valid), **library.parameters()}
    for name in ("compiled", "dense"):
        model = runs[name].model
        ours = {"predictions": probabilities(model, data.x_valid), **model.parameters()}
        found.update({(name, what): mape(ours[what], true[what]) for what in true})
    return found


def shown(found: dict[tuple[str, str], float]) -> str:
    """The distances, a line each."""
    return "\n".join(
        f"MAPE of {what:12}{name:>9} / library  {n:.2e}" for (name, what), n in found.items()
    )


# %% [notebook]
# found = distances(runs, data)
# print(shown(found))
# assert all(found[name, what] < 1e-14 for name in ("compiled", "dense") for what in "wb")


# %%
def draw(runs: dict[str, Run], file: Any) -> None:
    """The curves of the three trainings, which lie on each other, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    looks = ({"lw": 7, "alpha": 0.3}, {"lw": 2}, {"lw": 2, "ls": ":", "color": "black"})
    for (name, run), look in zip(runs.items(), looks, strict=True):
        axes.plot([e.ce for e in run.trace], **{"color": "C0", **look}, label=f"CE, {name}")
        axes.plot([e.ce_valid for e in run.trace], **{"color": "C1", **look}, label=f"CE_v, {name}")
    axes.set(xlabel="epoch", ylabel="cross-entropy", title="Three trainings from the same start")
    axes.legend(ncols=2, fontsize="small")
    figure.savefig(file, format="png", dpi=80, metadata={"Software": None})


# %% [notebook]
# from io import BytesIO
#
# from IPython.display import Image
#
# picture = BytesIO()
# draw(runs, picture)
# Image(picture.getvalue(), alt="The loss curves of three trainings, on each other")


# %% [script]
def usable(device: str) -> str:
    """The device, if torch has it here; otherwise exit with what was found."""
    from gradcheck import GradcheckError
    from gradcheck.backends import get

    try:
        return get("torch").find_device(device)
    except GradcheckError as error:
        print(f"--device {device}: {error}", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify, train three times, compare; exit 0 only if all agree."""
    from importlib.util import find_spec

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into a PNG file")
    options = parser.parse_args(arguments)
    if options.plot and find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib: pip install "gradcheck[plot]"')
    device = usable(options.device)
    report = verified()
    print(summary(report), end="\n\n")
    data = make_data(device)
    runs = train(data, options.epochs)
    print(side_by_side(runs))
    print(f"identical in every epoch: {identical(runs)}", end="\n\n")
    found = distances(runs, data)
    print(shown(found))
    print(", ".join(f"{name} {run.seconds:.2f} s" for name, run in runs.items()))
    if options.plot:
        draw(runs, options.plot)
    close = all(n < 1e-14 for (_, what), n in found.items() if what in "wb")
    return 0 if report.ok and identical(runs) and close else 1


if __name__ == "__main__":
    sys.exit(main())
