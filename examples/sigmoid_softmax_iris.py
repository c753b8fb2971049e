"""A notebook's wrong update rule: refuted as a claim, and trained beside the right one on Iris.

    python examples/sigmoid_softmax_iris.py
    python examples/sigmoid_softmax_iris.py --plot losses.png
    gradcheck verify examples/sigmoid_softmax_iris.py::notebook_rule     # exit 1
    gradcheck verify examples/sigmoid_softmax_iris.py::right_rule        # exit 0

The notebook trains a regressor z = x w + b, s = sigmoid(z), a = softmax(s) with cross-entropy. For
one-hot targets whose 1 stands in column t of row p, its code multiplies

    cee_gradient[targets == 1, None]    -1 / a[p,t]
    softmax_true_gradient               (y[p,s] - a[p,s]) a[p,s]
    sigmoid_gradient                    s[p,s] (1 - s[p,s])

and averages over the batch. Since -1 / a[p,t] = -Σ_q y[p,q] / a[p,q], what it holds for ∂L/∂z is

    1/m s[p,s] (1 - s[p,s]) (a[p,s] - y[p,s]) a[p,s] Σ_q y[p,q] / a[p,q]

The row of the softmax Jacobian that belongs to the true class is ∂a[p,t]/∂s[p,s] =
a[p,t] (δ[t,s] - a[p,s]); the code has a[p,s] for its first factor. With the right one,

    ∂L/∂z[p,s] = 1/m s[p,s] (1 - s[p,s]) (a[p,s] - y[p,s])

So the notebook's gradient is right in the true class, and a[p,s] / a[p,t] times the right one in
every other. The signs are right, hence its loss falls; and while all classes are about equally
probable the factor is about 1. That is why nobody noticed: in the first hundred epochs or so the two
losses can hardly be told apart, and the wrong one may even lie a little lower; then it falls behind.
"""

# %%
from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import Spec, backends, einsum, load, one_hot, size, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck import Report

    Arrays = dict[str, np.ndarray]

SEED, RATE, EPOCHS, BATCH, PATIENCE = 0, 0.5, 1000, 150, 10

# %% [markdown]
# ## Two rules, as claims about the same chain
#
# Each product of three factors becomes a sum of einsum terms: s (1 − s) = s − s², and
# (a − y) a = a² − y a. What einsum terms cannot say is the boolean index `targets == 1`; for
# one-hot targets Σ_q y[p,q] / a[p,q] is the same number. For soft targets the index selects
# nothing and the notebook's code raises an error, so `notebook_rule_soft` is the sum's reading of
# it, not the code's.

# %%
links = load("sigmoid") >> load("softmax") >> load("cross_entropy")

_NOTEBOOK = (
    einsum("ps,ps,pq,pq->ps", "s", "a**2", "y", "a**-1")
    - einsum("ps,ps,pq,pq->ps", "s**2", "a**2", "y", "a**-1")
    - einsum("ps,ps,ps,pq,pq->ps", "s", "y", "a", "y", "a**-1")
    + einsum("ps,ps,ps,pq,pq->ps", "s**2", "y", "a", "y", "a**-1")
) / size("m")

_SOURCE = "notebook sigmoid_softmax_regressor_numpy, 'fit'"

notebook_rule = Spec(
    links,
    inputs={"y": one_hot("m n")},
    jacobian={"z": _NOTEBOOK},
    source=_SOURCE,
    name="notebook_rule",
)

notebook_rule_soft = Spec(
    links, jacobian={"z": _NOTEBOOK}, source=_SOURCE, name="notebook_rule_soft"
)

right_rule = Spec(
    links,
    jacobian={
        "z": (
            einsum("ps,ps->ps", "s", "a")
            - einsum("ps,ps->ps", "s", "y")
            - einsum("ps,ps->ps", "s**2", "a")
            + einsum("ps,ps->ps", "s**2", "y")
        )
        / size("m")
    },
    source="the chain rule over sigmoid, softmax and cross_entropy, with Σ_q y[p,q] = 1",
    name="right_rule",
)


def verified() -> dict[str, Report]:
    """The reports on the links, on the right rule, and on the notebook's."""
    targets: dict[str, Any] = {
        "the chain": load("weighted_sum") >> links,
        "the right rule": right_rule,
        "the notebook's rule": notebook_rule,
        "the notebook's rule, soft targets": notebook_rule_soft,
    }
    tensorflow = [name for name in backends.installed() if name == "tensorflow"]
    oracles = ["symbolic", "autograd", *tensorflow, "differences"]
    return {n: verify(t, oracles=oracles, profile="quick") for n, t in targets.items()}


def summary(reports: dict[str, Report]) -> str:
    """One line for each claim: which oracles say what."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, report in reports.items():
        for check in report.checks:
            said = found.setdefault(f"{name}, ∂L/∂{check.input}", {})
            said.setdefault(check.verdict, []).append(check.oracle)
    return "\n".join(
        f"{claim}: " + "; ".join(f"{verdict} by {', '.join(n)}" for verdict, n in said.items())
        for claim, said in found.items()
    )


def as_expected(reports: dict[str, Report]) -> bool:
    """Whether the right ones are covered and every oracle refutes the notebook's."""
    right = all(reports[n].ok for n in ("the chain", "the right rule"))
    wrong = [c for n, r in reports.items() if n.startswith("the notebook") for c in r.checks]
    return right and {str(c.verdict) for c in wrong} == {"refuted"}


# %% [notebook]
# reports = verified()
# print(summary(reports))
# assert as_expected(reports)

# %% [markdown]
# The report on the notebook's rule, with the smallest input at which it fails:

# %% [notebook]
# print(reports["the notebook's rule"])

# %% [markdown]
# ## The claim is what the code computes
#
# Below is the notebook's update as it stands there. On random parameters it equals the gradient
# compiled from `notebook_rule`. On the example that the notebook itself looks at, where all weights
# are 1, the outputs of a row are all equal, so a[p,s] / a[p,t] = 1 and the wrong rule is right:
# that input cannot show the slip. (What is left there is rounding: the terms s − s² cancel where s is
# nearly 1, which the code's s (1 − s) does not.)


# %%
def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _softmax(s: np.ndarray) -> np.ndarray:
    e = np.exp(s - np.max(s, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def notebook_update(x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray) -> Arrays:
    """The notebook's gradients, in its own words."""
    samples, targets, n_classes = x, y, y.shape[1]
    logits = _sigmoid(x @ w + b)
    preds = _softmax(logits)
    cee_gradient = -targets / preds
    softmax_true_gradient = (targets - preds) * preds
    sigmoid_gradient = logits * (np.ones(n_classes) - logits)
    coeff_derivative = np.repeat(samples[:, :, None], repeats=n_classes, axis=2)
    biases_gradients = sigmoid_gradient * softmax_true_gradient * cee_gradient[targets == 1, None]
    coeffs_gradients = coeff_derivative * biases_gradients[:, None, :]
    return {"w": np.mean(coeffs_gradients, axis=0), "b": np.mean(biases_gradients, axis=0)}


wrong_gradient = (load("weighted_sum") >> notebook_rule).gradient("w", "b")
right_gradient = (load("weighted_sum") >> right_rule).gradient("w", "b")
predict = load("weighted_sum") >> load("sigmoid") >> load("softmax")


def gap(first: Arrays, second: Arrays) -> float:
    """The largest difference of two gradients, relative to the largest entry of the second."""
    pairs = [(first[n], second[n]) for n in second]
    return float(max(np.max(np.abs(p - q)) / np.max(np.abs(q)) for p, q in pairs))


def comparisons(seed: int = SEED) -> dict[str, float]:
    """How far apart code, claim and right gradient are at random weights, and at weights of 1."""
    rng = np.random.default_rng(seed)
    drawn = {"x": rng.uniform(size=(20, 4)), "w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    drawn["y"] = np.eye(3)[rng.integers(3, size=20)]
    ones = {
        "x": np.array([[3, 7.1, 2, 5.1], [1.442, 1.2, 4, 0.11]]),
        "w": np.ones((4, 3)),
        "b": np.ones(3),
        "y": np.array([[0.0, 1, 0], [1, 0, 0]]),
    }
    return {
        "its code and its claim, random weights": gap(
            wrong_gradient(**drawn), notebook_update(**drawn)
        ),
        "its code and the right rule, random weights": gap(
            notebook_update(**drawn), right_gradient(**drawn)
        ),
        "its code and the right rule, weights of 1": gap(
            notebook_update(**ones), right_gradient(**ones)
        ),
    }


# %% [notebook]
# for name, number in comparisons().items():
#     print(f"{name}: {number:.1e}")

# %% [markdown]
# ## The data and the training
#
# Iris with one minimum and one maximum for the whole array, as in the notebook; batches in order;
# training stops after 10 epochs without a new smallest loss. One thing differs: the notebook drops
# the rows that do not fill a batch, here the last batch is short. With its batch of 150 there are
# none.


# %%
@dataclass(frozen=True)
class Run:
    """One training: parameters, the loss and the accuracy of each epoch."""

    w: np.ndarray
    b: np.ndarray
    losses: list[float]
    accuracies: list[float]


def iris(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """The shuffled samples, scaled to [0, 1] by the array's own minimum and maximum; one-hot targets."""
    from sklearn.datasets import load_iris

    data = load_iris()
    order = np.random.default_rng(seed).permutation(len(data.data))
    x, labels = data.data[order], data.target[order]
    return (x - x.min()) / (x.max() - x.min()), np.eye(3)[labels]


def start(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases uniform in [0, 1], as in the notebook."""
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(4, 3)), rng.uniform(size=3)


def fit(
    gradient: Any, x: np.ndarray, y: np.ndarray, *, epochs: int = EPOCHS, batch: int = BATCH
) -> Run:
    """Gradient descent along the given rule, with early stopping."""
    (w, b), losses, accuracies = start(), [], []
    for _ in range(epochs):
        steps = []
        for begin in range(0, len(x), batch):
            rows = slice(begin, begin + batch)
            given = {"x": x[rows], "w": w, "b": b, "y": y[rows]}
            value, step = gradient(**given)
            steps.append(float(value))
            w, b = w - RATE * step["w"], b - RATE * step["b"]
        hits = predict.value(x=x, w=w, b=b).argmax(axis=1) == y.argmax(axis=1)
        losses.append(float(np.mean(steps)))
        accuracies.append(float(hits.mean()))
        if len(losses) - int(np.argmin(losses)) > PATIENCE:
            break
    return Run(w, b, losses, accuracies)


def train(x: np.ndarray, y: np.ndarray, epochs: int = EPOCHS, batch: int = BATCH) -> dict[str, Run]:
    """Both rules from the same start."""
    rules = {"right": right_rule, "notebook": notebook_rule}
    return {
        name: fit(
            (load("weighted_sum") >> rule).value_and_gradient("w", "b"),
            x, y, epochs=epochs, batch=batch,
        )
        for name, rule in rules.items()
    }  # fmt: skip


def table(runs: dict[str, Run]) -> str:
    """Loss and accuracy of both at some epochs, and at the last."""
    last = max(len(run.losses) for run in runs.values()) - 1
    lines = ["epoch   loss: right  notebook   accuracy: right  notebook"]
    for i in sorted({i for i in (0, 10, 50, 100, 200, 500) if i < last} | {last}):
        loss = [run.losses[min(i, len(run.losses) - 1)] for run in runs.values()]
        hits = [run.accuracies[min(i, len(run.accuracies) - 1)] for run in runs.values()]
        lines.append(f"{i:5}  {loss[0]:12.4f}{loss[1]:10.4f}  {hits[0]:16.2f}{hits[1]:10.2f}")
    return "\n".join(lines)


# %% [notebook]
# x, y = iris()
# runs = train(x, y)
# print(table(runs))

# %% [markdown]
# The sigmoid keeps what enters the softmax between 0 and 1, so no probability exceeds
# e / (e + 2) = 0.58 and the loss cannot fall below log(e + 2) − 1 = 0.55, whatever the rule.


# %%
def slower(runs: dict[str, Run]) -> str:
    """After how many epochs the right rule was where the notebook's ended."""
    end, taken = runs["notebook"].losses[-1], len(runs["notebook"].losses) - 1
    first = next((i for i, loss in enumerate(runs["right"].losses) if loss <= end), None)
    if first is None:
        return f"after epoch {taken} the notebook's loss is still the lower one: train longer"
    return f"the notebook's loss of epoch {taken}, {end:.4f}, was the right rule's in epoch {first}"


def sample(runs: dict[str, Run], x: np.ndarray, row: int = 40) -> str:
    """What both predict for one sample, as the notebook prints it."""
    lines = [f"x[{row}] = {np.round(x[row], 4)}"]
    for name, run in runs.items():
        a = predict.value(x=x[None, row], w=run.w, b=run.b)
        lines.append(f"{name:>9}: {np.round(a[0], 4)}")
    return "\n".join(lines)


def draw(runs: dict[str, Run], file: Any) -> None:
    """Both losses, and both accuracies, over the epochs, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    for (name, run), style in zip(runs.items(), ("-", "--"), strict=True):
        losses.plot(run.losses, style, label=f"{name} rule")
        accuracies.plot(run.accuracies, style, label=f"{name} rule")
    losses.set(xlabel="epoch", ylabel="cross-entropy", title="Both losses fall")
    losses.axhline(np.log(np.e + 2) - 1, color="grey", lw=1, ls=":", label="smallest possible")
    accuracies.set(xlabel="epoch", ylabel="accuracy", title="Accuracy on the training data")
    losses.legend(fontsize="small")
    accuracies.legend(fontsize="small")
    figure.savefig(file, format="png", dpi=80, metadata={"Software": None})


# %% [notebook]
# print(slower(runs))
# print(sample(runs, x))

# %% [notebook]
# from io import BytesIO
#
# from IPython.display import Image
#
# picture = BytesIO()
# draw(runs, picture)
# Image(picture.getvalue(), alt="Loss and accuracy of both rules over 1000 epochs")

# %% [markdown]
# In mini-batches of 30 rows, with early stopping:

# %% [notebook]
# small = train(x, y, epochs=200, batch=30)
# print(table(small))


# %% [script]
def main(arguments: Sequence[str] | None = None) -> int:
    """Verify both rules, train with both; exit 0 only if the verdicts are as they should be."""
    from importlib.util import find_spec

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"default: {BATCH}")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into a PNG file")
    options = parser.parse_args(arguments)
    if options.plot and find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib: pip install "gradcheck[plot]"')
    reports = verified()
    print(summary(reports), end="\n\n")
    print(reports["the notebook's rule"], end="\n\n")
    for name, number in comparisons().items():
        print(f"{name}: {number:.1e}")
    x, y = iris()
    started = time.perf_counter()
    runs = train(x, y, options.epochs, options.batch)
    print(f"\n{table(runs)}\n{slower(runs)}\n\n{sample(runs, x)}")
    print(f"trained in {time.perf_counter() - started:.1f} s")
    if options.plot:
        draw(runs, options.plot)
    return 0 if as_expected(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
