"""`verify_layer` on plain objects: forward and backward, gradients in attributes, training classes."""

# ruff: noqa: ARG005, NPY002 - signatures are given; NumPy's global generator is meant
from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from gradcheck import real, verify_layer
from gradcheck.errors import UsageError

verify = functools.partial(verify_layer, oracles=["autograd"], profile="quick")


class Dense:
    """x w + b."""

    def __init__(self):
        self.w, self.b = np.ones((4, 3)), np.zeros(3)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dz):
        self.dw, self.db = self.x.T @ dz, dz.sum(0)
        return dz @ self.w.T


DENSE = {"of": "weighted_sum", "grads": {"w": "dw", "b": "db"}}


def verdicts(report):
    return {c.input: str(c.verdict) for c in report.checks}


def test_a_right_dense_layer_is_left_as_it_was():
    layer = Dense()
    report = verify(layer, **DENSE)
    assert report.ok, str(report)
    assert set(verdicts(report)) == {"x", "w", "b"}
    assert set(vars(layer)) == {"w", "b"}
    assert bool((layer.w == 1).all())


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("b", lambda s, dz: setattr(s, "db", dz), "b was broadcast, so sum over axis 0"),
        ("w", lambda s, dz: setattr(s, "dw", s.dw.T), "transpose it"),
        ("w", lambda s, dz: setattr(s, "dw", s.dw / max(1, len(dz))), "Wrong factor"),
        ("b", lambda s, dz: setattr(s, "db", -s.db), "The sign is wrong"),
        ("w", lambda s, dz: setattr(s, "dw", s.dw.astype(np.float32)), "float32"),
        ("b", lambda s, dz: setattr(s, "db", np.full(s.b.shape, float(len(dz)))), "ot linear"),
    ],
)
def test_gradients_in_attributes_are_looked_at_raw(name, spoil, words):
    class Spoilt(Dense):
        def backward(self, dz):
            dx = super().backward(dz)
            spoil(self, dz)
            return dx

    report = verify(Spoilt(), **DENSE)
    assert verdicts(report)[name] == "refuted", str(report)
    assert words in str(report)


def test_a_backward_that_writes_into_what_it_is_given():
    class InPlace(Dense):
        def backward(self, dz):
            dx = super().backward(dz)
            dz *= 0
            return dx

    report = verify(InPlace(), **DENSE)
    assert not report.ok
    assert "written into" in str(report)


def test_random_state_is_that_of_the_first_call():
    class Noisy(Dense):
        def forward(self, x):
            keep = np.random.random() < 2
            return super().forward(x) * keep + 0 * np.random.random()

    before = np.random.get_state()[1].copy()
    assert verify(Noisy(), **DENSE).ok
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_several_arguments_and_other_names():
    class Product:
        def run(self, x, y):
            self.kept = x, y
            return x * y

        def pull(self, g):
            x, y = self.kept
            return g * y, g * x

    wanted = {"of": lambda xp, x, y: xp.multiply(x, y), "inputs": {"x": real("n"), "y": real("n")}}
    assert verify(Product(), **wanted, forward="run", backward="pull").ok

    class Swapped(Product):
        def pull(self, g):
            return super().pull(g)[::-1]

    report = verify(Swapped(), **wanted, forward="run", backward="pull")
    assert set(verdicts(report).values()) == {"refuted"}

    class One(Product):
        def pull(self, g):
            return super().pull(g)[0]

    report = verify(One(), **wanted, forward="run", backward="pull")
    assert "must return one for each of x, y" in str(report)


def test_another_forward_is_refuted_as_such():
    class Shifted(Dense):
        def forward(self, x):
            return super().forward(x) + 1e-9

    report = verify(Shifted(), **DENSE)
    assert set(verdicts(report).values()) == {"refuted"}
    assert "another function than `of`" in str(report)


def test_objects_of_torch_tensors():
    torch = pytest.importorskip("torch")

    class Scale:
        def __init__(self):
            self.g = torch.ones(3)

        def forward(self, x):
            self.x = x
            return self.g * x

        def backward(self, dh):
            self.dg = (dh * self.x).sum(0)
            return dh * self.g

    wanted = {"of": lambda xp, x, g: g * x, "inputs": {"x": real("m n"), "g": real("n")}}
    report = verify(Scale(), **wanted, grads={"g": "dg"}, dtypes=["float64", "bfloat16"])
    assert report.ok, str(report)


# ---------------------------------------------------------------- training classes


class Softmax:
    """A classifier that trains itself."""

    def __init__(self):
        self.w, self.b = np.ones((4, 3)), np.zeros(3)

    def predict(self, x):
        z = x @ self.w + self.b
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def loss(self, x, y):
        return -np.sum(y * np.log(self.predict(x))) / len(y)

    def update(self, x, y, y_pred, lr):
        delta = -(y / y_pred) / len(y)
        delta = y_pred * (delta - (delta * y_pred).sum(1, keepdims=True))
        self.b -= lr * delta.sum(0)
        self.w -= lr * (x.T @ delta)


def step(model, x, y, lr):
    model.update(x, y, model.predict(x), lr)


def test_a_classifier_that_trains_itself():
    model = Softmax()
    report = verify(model, of="classifier", update=step, forward="loss")
    assert report.ok, str(report)
    assert set(verdicts(report)) == {"w", "b"}
    assert bool((model.w == 1).all())


@pytest.mark.parametrize("lr", [0.01, 0.3, 7.0])
def test_at_the_learning_rate_of_the_class(lr):
    report = verify(
        Softmax(),
        of="classifier",
        update=lambda m, x, y: step(m, x, y, lr),
        lr=lr,
        profile="standard",
    )
    assert report.ok, str(report)


def test_low_precision_of_an_update():
    report = verify(Softmax(), of="classifier", update=step, dtypes=["float32"])
    assert report.ok, str(report)


def test_wrong_updates_are_refuted():
    class NoMean(Softmax):
        def update(self, x, y, y_pred, lr):
            old = self.w.copy()
            super().update(x, y, y_pred, lr)
            self.w = old + (self.w - old) * len(y)

    report = verify(NoMean(), of="classifier", update=step)
    assert verdicts(report) == {"w": "refuted", "b": "agrees"}
    assert "Wrong factor" in str(report)

    class Uphill(Softmax):
        def update(self, x, y, y_pred, lr):
            super().update(x, y, y_pred, -lr)

    report = verify(Uphill(), of="classifier", update=step)
    assert set(verdicts(report).values()) == {"refuted"}
    # The class works at another rate than it says.
    report = verify(Softmax(), of="classifier", update=lambda m, x, y: step(m, x, y, 0.1), lr=0.2)
    assert set(verdicts(report).values()) == {"refuted"}


def test_a_small_error_is_not_taken_for_rounding():
    class Off(Softmax):
        def update(self, x, y, y_pred, lr):
            old = self.w.copy()
            super().update(x, y, y_pred, lr)
            self.w = old + (self.w - old) * (1 + 1e-9)

    assert verdicts(verify(Off(), of="classifier", update=step))["w"] == "refuted"


def test_a_class_on_torch_tensors():
    torch = pytest.importorskip("torch")

    class Linear:
        def __init__(self):
            self.w = torch.ones(3)

        def update(self, x, y, lr):
            error = x @ self.w - y
            self.w -= lr * 2 * (x.T @ error) / len(y)

    def loss(xp, x, y, w):
        error = xp.matmul(x, w) - y
        return xp.sum(error * error) / x.shape[0]

    inputs = {"x": real("m n"), "y": real("m"), "w": real("n")}
    report = verify(Linear(), of=loss, inputs=inputs, update="update")
    assert report.ok, str(report)


# ---------------------------------------------------------------- what does not fit


def test_errors_say_what_to_write():
    with pytest.raises(
        UsageError, match=r"nothing says where backward leaves its gradient; write grads="
    ):
        verify(Dense(), of="weighted_sum")
    with pytest.raises(UsageError, match="grads names 'c', which is no input"):
        verify(Dense(), of="weighted_sum", grads={"c": "dc"})
    with pytest.raises(UsageError, match="has no method 'go'; its methods are backward, forward"):
        verify(Dense(), **DENSE, forward="go")
    with pytest.raises(UsageError, match=r"say at which learning rate it works: lr=0\.1"):
        verify(Softmax(), of="classifier", update=lambda m, x, y: None)
    with pytest.raises(UsageError, match=r"none of the inputs of `of`"):
        verify(Softmax(), of="softmax", update=step)
    with pytest.raises(UsageError, match="lr= is for an object that trains itself"):
        verify(Dense(), **DENSE, lr=0.1)
    with pytest.raises(UsageError, match="a learning rate is a positive number"):
        verify(Softmax(), of="classifier", update=step, lr=-1.0)


def test_gradients_that_are_nowhere():
    report = verify(Dense(), of="weighted_sum", grads={"w": "dw", "b": "dbias"})
    assert not report.ok
    assert "has no attribute 'dbias', where grads says" in " ".join(str(report).split())


def test_an_update_against_something_that_is_no_loss():
    report = verify(Softmax(), of="weighted_sum", update=lambda m, x, lr: None)
    assert not report.ok
    assert "compose it with the loss" in str(report)


class Square:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, g):
        return 2 * self.x * g


def test_an_object_that_cannot_be_copied_teaches():
    layer = Square()
    layer.lock = threading.Lock()
    report = verify(layer, of=lambda xp, x: x * x, inputs={"x": real("n")})
    assert "Square cannot be copied" in str(report)
    assert "or give it __deepcopy__" in " ".join(str(report).split())
