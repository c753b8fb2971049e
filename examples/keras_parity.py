"""A softmax classifier against Keras, from the same parameters, step by step.

    python examples/keras_parity.py
    python examples/keras_parity.py --plot losses.png

The notebook that this follows sets out to compare its classifier with a Keras model. It copies one
column of the weights, writes ∂Z/∂W as I ⊗ X, and stops in the middle of the update. Here all columns
are copied, the two orders of that Kronecker product are held against the verified Jacobian, the
update is the chain's gradient, and one step and ten epochs are compared with Keras.

Two things to know about Keras. Its learning rate is stored in the default float type, so that with
float32 a rate of 0.01 is 2e-8 off, and so is every step: the default is float64 here, as in the
notebook, and put back afterwards. And its categorical cross-entropy divides the probabilities by
their row sums first. That changes ∂L/∂a by 1/m in every entry, but not ∂L/∂z, since the rows of the
softmax Jacobian sum to zero.
"""

# %%
from __future__ import annotations

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import load, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck import Report

SEED, SAMPLES, FEATURES, CLASSES, TRAIN = 0, 100, 5, 3, 85
BATCH, EPOCHS, RATE = 32, 10, 0.01

# %% [markdown]
# ## What is verified first

# %%
weighted_sum = load("weighted_sum")
predict = weighted_sum >> load("softmax")
classifier = weighted_sum >> load("softmax") >> load("cross_entropy")


def verified() -> Report:
    """The report on the specs and their chain, on searched inputs."""
    targets = [weighted_sum, "softmax", "cross_entropy", classifier]
    return verify(targets, oracles=oracles(), profile="quick")


def oracles() -> tuple[str, ...]:
    """A proof for all shapes; TensorFlow, which this example needs anyway; differences."""
    return "symbolic", "tensorflow", "differences"


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
# As in the notebook: 100 points, 85 to train with, one-hot targets.


# %%
@dataclass(frozen=True)
class Data:
    """Rows to train with and rows to validate on."""

    x: np.ndarray
    y: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray


@dataclass(frozen=True)
class Parameters:
    """Weights of shape features × classes, and the bias."""

    w: np.ndarray
    b: np.ndarray


def make_data(seed: int = SEED) -> Data:
    """The notebook's data, with a fixed seed."""
    from sklearn.datasets import make_classification

    x, labels = make_classification(
        n_samples=SAMPLES,
        n_features=FEATURES,
        n_classes=CLASSES,
        n_informative=FEATURES - 1,
        n_redundant=0,
        random_state=seed,
    )
    y = np.eye(CLASSES)[labels]
    return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


# %% [markdown]
# ## ∂Z/∂W as a Kronecker product
#
# ∂z[r,s]/∂w[t,u] = x[r,t] δ[s,u] is an array of four axes. Written as a matrix, it depends on how Z
# and W are laid out as vectors:
#
# - **row by row** (as reshape does): ∂vec Z/∂vec W = X ⊗ I
# - **column by column** (as in textbooks, vec(X W) = (I ⊗ X) vec W): ∂vec Z/∂vec W = I ⊗ X
#
# The notebook writes I ⊗ X beside the shape (M × Q) × (N × Q), in which rows come first: there X ⊗ I
# is right. Its code, a Kronecker product of x[:, None, :, None] and I[None, :, None, :], has
# the right order. Both matrices have the same shape, so no error would show.


# %%
def kronecker(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> dict[str, bool]:
    """Each way to write ∂Z/∂W, and whether it equals the spec's Jacobian, entry by entry."""
    dense = weighted_sum.dense("w")(x=x, w=w, b=b)
    identity = np.eye(w.shape[1])
    rows = dense.reshape(dense.shape[0] * dense.shape[1], -1)
    columns = dense.transpose(1, 0, 3, 2).reshape(rows.shape)
    code = np.kron(x[:, None, :, None], identity[None, :, None, :])
    return {
        "row by row: X ⊗ I": np.array_equal(rows, np.kron(x, identity)),
        "row by row: I ⊗ X": np.array_equal(rows, np.kron(identity, x)),
        "column by column: I ⊗ X": np.array_equal(columns, np.kron(identity, x)),
        "column by column: X ⊗ I": np.array_equal(columns, np.kron(x, identity)),
        "the notebook's code, of four axes": np.array_equal(dense, code),
    }


# %% [notebook]
# data = make_data()
# rng = np.random.default_rng(SEED)
# first = Parameters(rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES))
# for form, equal in kronecker(data.x, first.w, first.b).items():
#     print(f"{form}: {'equal to the spec' if equal else 'not equal'}")

# %% [markdown]
# ## The Keras model, and its parameters copied


# %%
@contextlib.contextmanager
def keras_in_float64() -> Iterator[Any]:
    """Keras on TensorFlow with float64 as its default, which is put back afterwards."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import keras

    # The policy of layers is fixed when the first one is made: it has to be set beside the default.
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield keras
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)


def keras_model(keras: Any, seed: int = SEED) -> Any:
    """A dense layer with softmax, cross-entropy, plain gradient descent."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(CLASSES, activation="softmax")
    model = keras.Sequential([keras.Input((FEATURES,)), layer])
    optimizer = keras.optimizers.SGD(learning_rate=RATE)
    model.compile(optimizer=optimizer, loss=keras.losses.CategoricalCrossentropy())
    return model


def copied(model: Any) -> Parameters:
    """All columns of the weights, and the bias.

    The notebook's `weights[0].numpy()[:, 0]` is one column of shape (5,), and copying it into
    weights of shape (5, 3) fails. With as many features as classes it would not fail, but fill
    every row with that column.
    """
    w, b = model.get_weights()
    return Parameters(w.copy(), b.copy())


# %% [markdown]
# ## The update that the notebook leaves unfinished


# %%
gradient = classifier.gradient("w", "b")


def update(now: Parameters, x: np.ndarray, y: np.ndarray, rate: float = RATE) -> Parameters:
    """One step of gradient descent."""
    step = gradient(x=x, w=now.w, b=now.b, y=y)
    return Parameters(now.w - rate * step["w"], now.b - rate * step["b"])


def loss(now: Parameters, x: np.ndarray, y: np.ndarray) -> float:
    """The cross-entropy of the spec."""
    return float(classifier.value(x=x, w=now.w, b=now.b, y=y))


def fit(now: Parameters, data: Data, epochs: int = EPOCHS) -> tuple[Parameters, list[float]]:
    """Some epochs over the batches in order; the validation loss after each."""
    losses = []
    for _ in range(epochs):
        for begin in range(0, len(data.x), BATCH):
            rows = slice(begin, begin + BATCH)
            now = update(now, data.x[rows], data.y[rows])
        losses.append(loss(now, data.x_valid, data.y_valid))
    return now, losses


# %% [markdown]
# ## One step and ten epochs, compared
#
# MAPE: the mean over all entries of |t − p| / |t|, and of |p| where t = 0, as a fraction.


# %%
def mape(predicted: np.ndarray, true: np.ndarray) -> float:
    """The mean over all entries of |t - p| / |t|, and of |p| where t = 0: a fraction."""
    scale = np.where(true == 0, 1.0, np.abs(true))
    return float(np.mean(np.abs(true - predicted) / scale))


@dataclass(frozen=True)
class Comparison:
    """The MAPE of everything compared, and both traces of the validation loss."""

    distances: dict[str, float]
    ours: list[float]
    theirs: list[float]


def _distances(when: str, now: Parameters, model: Any) -> dict[str, float]:
    theirs = copied(model)
    return {f"w {when}": mape(now.w, theirs.w), f"b {when}": mape(now.b, theirs.b)}


def compare(data: Data, epochs: int = EPOCHS) -> Comparison:
    """One step on the first batch, then whole epochs, each from the parameters of the Keras model."""
    with keras_in_float64() as keras:
        model = keras_model(keras)
        start = copied(model)
        rows = slice(0, BATCH)
        model.train_on_batch(data.x[rows], data.y[rows])
        now = update(start, data.x[rows], data.y[rows])
        distances = _distances("after one step", now, model)

        model.set_weights([start.w, start.b])
        options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
        valid = (data.x_valid, data.y_valid)
        history = model.fit(data.x, data.y, epochs=epochs, validation_data=valid, **options)
        now, losses = fit(start, data, epochs)
        distances |= _distances(f"after {epochs} epochs", now, model)
        theirs = model.predict(data.x_valid, verbose=0)
    ours = predict.value(x=data.x_valid, w=now.w, b=now.b)
    distances["predictions at the end"] = mape(ours, theirs)
    trace = history.history["val_loss"]
    distances["the trace of CE_v"] = mape(np.array(losses), np.array(trace))
    return Comparison(distances, losses, trace)


def shown(found: Comparison) -> str:
    """Both traces side by side, then the distances."""
    lines = ["epoch  CE_v: spec     Keras"]
    pairs = zip(found.ours, found.theirs, strict=True)
    lines += [f"{i:5}  {p:10.4f}{q:10.4f}" for i, (p, q) in enumerate(pairs)]
    lines += [f"MAPE of {what}: {number:.2e}" for what, number in found.distances.items()]
    return "\n".join(lines)


# %% [notebook]
# found = compare(data)
# print(shown(found))
# assert all(number < 1e-14 for what, number in found.distances.items())


# %%
def draw(found: Comparison, file: Any) -> None:
    """Both curves of the validation loss, which lie on each other, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.ours, lw=7, alpha=0.3, label="spec")
    axes.plot(found.theirs, ":", color="black", label="Keras")
    axes.set(xlabel="epoch", ylabel="CE_v", title="Validation loss, from the same start")
    axes.legend()
    figure.savefig(file, format="png", dpi=80, metadata={"Software": None})


# %% [notebook]
# from io import BytesIO
#
# from IPython.display import Image
#
# picture = BytesIO()
# draw(found, picture)
# Image(picture.getvalue(), alt="The validation losses of the spec and of Keras, on each other")


# %% [script]
def main(arguments: Sequence[str] | None = None) -> int:
    """Verify, hold the Kronecker forms against the spec, compare; exit 0 only if all is as it should be."""
    from importlib.util import find_spec

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into a PNG file")
    options = parser.parse_args(arguments)
    if find_spec("keras") is None:
        parser.error('this example needs Keras: pip install "gradcheck[tensorflow]"')
    if options.plot and find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib: pip install "gradcheck[plot]"')
    report = verified()
    print(summary(report), end="\n\n")
    data, rng = make_data(), np.random.default_rng(SEED)
    forms = kronecker(data.x, rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES))
    for form, equal in forms.items():
        print(f"{form}: {'equal to the spec' if equal else 'not equal'}")
    found = compare(data, options.epochs)
    print(f"\n{shown(found)}")
    if options.plot:
        draw(found, options.plot)
    close = all(number < 1e-14 for number in found.distances.values())
    return (
        0 if report.ok and list(forms.values()) == [True, False, True, False, True] and close else 1
    )


if __name__ == "__main__":
    sys.exit(main())
