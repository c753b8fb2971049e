"""One table of cases for the documented names: it drives the tests of every backend."""

import numpy as np

RNG = np.random.default_rng(20240)
X = np.array([[0.3, -1.2, 2.5], [0.7, 1.1, -0.4]])
Y = np.array([[1.5, 0.2, -0.3], [0.9, -2.0, 0.6]])
P = np.abs(X) + 0.1  # positive
U = X / 3  # inside (-1, 1)
S = np.array([[[2.0, 0.3], [-0.5, 1.5]], [[1.0, 2.0], [0.1, -1.0]]])
V = np.array([0.5, -1.5, 2.0])
INDICES = np.array([[2, 0, 0], [1, 2, 2]])

# name -> (forward, arguments); several cases a name where it has several ways.
CASES = {
    "abs": [(lambda xp, x: xp.abs(x), X)],
    "acos": [(lambda xp, x: xp.acos(x), U)],
    "asin": [(lambda xp, x: xp.asin(x), U)],
    "atan": [(lambda xp, x: xp.atan(x), X)],
    "cos": [(lambda xp, x: xp.cos(x), X)],
    "cosh": [(lambda xp, x: xp.cosh(x), X)],
    "erf": [(lambda xp, x: xp.erf(x), X)],
    "exp": [(lambda xp, x: xp.exp(x), X)],
    "expm1": [(lambda xp, x: xp.expm1(x), X)],
    "log": [(lambda xp, x: xp.log(x), P)],
    "log1p": [(lambda xp, x: xp.log1p(x), P)],
    "negative": [(lambda xp, x: xp.negative(x), X)],
    "sigmoid": [(lambda xp, x: xp.sigmoid(x), X), (lambda xp, x: xp.sigmoid(0 * x), X)],
    "sign": [(lambda xp, x: xp.sign(x), X)],
    "sin": [(lambda xp, x: xp.sin(x), X)],
    "sinh": [(lambda xp, x: xp.sinh(x), X)],
    "sqrt": [(lambda xp, x: xp.sqrt(x), P), (lambda xp, x: x / xp.sqrt(2 * xp.pi), X)],
    "square": [(lambda xp, x: xp.square(x), X)],
    "tan": [(lambda xp, x: xp.tan(x), X)],
    "tanh": [(lambda xp, x: xp.tanh(x), X)],
    "add": [(lambda xp, x, y: xp.add(x, y), X, V), (lambda xp, x: xp.add(1, x), X)],
    "divide": [(lambda xp, x, y: xp.divide(x, y), X, Y), (lambda xp, x: xp.divide(2.0, x), X)],
    "logaddexp": [
        (lambda xp, x, y: xp.logaddexp(x, y), X, V),
        (lambda xp, x: xp.logaddexp(x, 0.0), X),
    ],
    "maximum": [
        (lambda xp, x, y: xp.maximum(x, y), X, Y),
        (lambda xp, x: xp.maximum(x, 0.0), X),
        (lambda xp, x: xp.maximum(0, x), X),
    ],
    "minimum": [(lambda xp, x, y: xp.minimum(x, y), X, V), (lambda xp, x: xp.minimum(0.5, x), X)],
    "multiply": [(lambda xp, x, y: xp.multiply(x, y), X, V)],
    "pow": [
        (lambda xp, x: xp.pow(x, 3), X),
        (lambda xp, x: xp.pow(x, -1.5), P),
        (lambda xp, x: xp.pow(2.0, x), X),
        (lambda xp, x, y: xp.pow(x, y), P, Y),
    ],
    "subtract": [(lambda xp, x, y: xp.subtract(x, y), X, V), (lambda xp, x: xp.subtract(1, x), X)],
    "equal": [(lambda xp, x: xp.equal(x, -1.2), X)],
    "greater": [(lambda xp, x, y: xp.greater(x, y), X, Y)],
    "greater_equal": [(lambda xp, x: xp.greater_equal(x, 0.7), np.round(X, 1))],
    "less": [(lambda xp, x: xp.less(0.5, x), X)],
    "less_equal": [(lambda xp, x, y: xp.less_equal(x, y), X, V)],
    "not_equal": [(lambda xp, x: xp.not_equal(x, 2.5), X)],
    "where": [
        (lambda xp, x, y: xp.where(x > y, x, y), X, V),
        (lambda xp, x: xp.where(x > 0, x, 0.1 * x), X),
        (lambda xp, x: xp.where(x > 0, 0.1, 0.3), X),
        (lambda xp, x: xp.where(x > 0, 0.1, x), X),
        (lambda xp, x, y: xp.where(x > 0, y, 0.0), X, V),
    ],
    "clip": [
        (lambda xp, x: xp.clip(x, -0.5, 1.0), X),
        (lambda xp, x: xp.clip(x, min=0.1), X),
        (lambda xp, x, y: xp.clip(x, max=y), X, V),
    ],
    "logsumexp": [
        (lambda xp, x: xp.logsumexp(x), X),
        (lambda xp, x: xp.logsumexp(1000 * x, axis=-1, keepdims=True), X),
        (lambda xp, x: xp.logsumexp(x, axis=(0, 2)), S),
    ],
    "max": [
        (lambda xp, x: xp.max(x), X),
        (lambda xp, x: xp.max(x, axis=(0, -1)), S),
        (lambda xp, x: xp.max(x, axis=1, keepdims=True), X),
        (lambda xp, x: xp.max(xp.stack([x, x]), axis=0), X),
    ],
    "min": [(lambda xp, x: xp.min(x), X), (lambda xp, x: xp.min(x, axis=0, keepdims=True), X)],
    "mean": [(lambda xp, x: xp.mean(x), X), (lambda xp, x: xp.mean(x, axis=(0, 1)), S)],
    "prod": [
        (lambda xp, x: xp.prod(x), X),
        (lambda xp, x: xp.prod(x, axis=-1, keepdims=True), np.where(X == 0.7, 0.0, X)),
        (lambda xp, x: xp.prod(x, axis=(0, 2)), S),
    ],
    "sum": [
        (lambda xp, x: xp.sum(x), X),
        (lambda xp, x: xp.sum(x, axis=(0, 2), keepdims=True), S),
        (lambda xp, x: xp.sum(x, axis=-1), X),
    ],
    "std": [
        (lambda xp, x: xp.std(x), X),
        (lambda xp, x: xp.std(x, axis=-1, correction=1, keepdims=True), X),
    ],
    "var": [
        (lambda xp, x: xp.var(x, axis=0), X),
        (lambda xp, x: xp.var(x, axis=(1, 2), correction=1), S),
    ],
    "einsum": [
        (lambda xp, x, y: xp.einsum("pq,rq->pr", x, y), X, Y),
        (lambda xp, x: xp.einsum("app->ap", x), S),
        (lambda xp, x: xp.einsum("app->a", x), S),
        (lambda xp, x, y, z: xp.einsum("pq,q,pq->p", x, y, z), X, V, Y),
        (lambda xp, x: xp.einsum("pq,->pq", x, 0.1), X),
    ],
    "matmul": [
        (lambda xp, x, y: xp.matmul(x, y), X, V),
        (lambda xp, x: xp.matmul(x, x), S),
    ],
    "matrix_transpose": [(lambda xp, x: xp.matrix_transpose(x), S)],
    "linalg": [
        (lambda xp, x: xp.linalg.inv(x), S),
        (lambda xp, x: xp.linalg.det(x), S),
    ],
    "broadcast_to": [
        (lambda xp, x: xp.broadcast_to(x, (2, 3)), V),
        (lambda xp, x: x * xp.broadcast_to(0.1, (3,)), V),
    ],
    "concat": [(lambda xp, x, y: xp.concat([x, y], axis=-1), X, Y)],
    "stack": [(lambda xp, x, y: xp.stack([x, y], axis=1), X, Y)],
    "cumulative_sum": [
        (lambda xp, x: xp.cumulative_sum(x, axis=-1), X),
        (lambda xp, x: xp.cumulative_sum(x, axis=0), S),
    ],
    "diagonal": [(lambda xp, x: xp.diagonal(x), S), (lambda xp, x: xp.diagonal(x), X)],
    "trace": [(lambda xp, x: xp.trace(x), S), (lambda xp, x: xp.trace(x), X)],
    "expand_dims": [(lambda xp, x: xp.expand_dims(x, axis=-1), X)],
    "flip": [(lambda xp, x: xp.flip(x, axis=-1), X), (lambda xp, x: xp.flip(x), S)],
    "one_hot": [(lambda xp, x: x * xp.one_hot(np.array([2, 0]), 3), X)],
    "permute_dims": [(lambda xp, x: xp.permute_dims(x, (2, 0, 1)), S)],
    "reshape": [(lambda xp, x: xp.reshape(x, (3, -1)), X)],
    "roll": [
        (lambda xp, x: xp.roll(x, 1, axis=-1), X),
        (lambda xp, x: xp.roll(x, 4), X),
        (lambda xp, x: xp.roll(x, (1, 2), axis=(0, 1)), X),
    ],
    "squeeze": [(lambda xp, x: xp.squeeze(x[:, None, :], axis=1), X)],
    "take": [
        (lambda xp, x: xp.take(x, INDICES, axis=-1), X),
        (lambda xp, x: xp.take(x, np.array([1, 1, 0]), axis=0), X),
        (lambda xp, x, i: xp.take(x, i, axis=0), X.T, INDICES),
    ],
    "tril": [(lambda xp, x: xp.tril(x), S), (lambda xp, x: xp.tril(x, k=-1), X)],
    "triu": [(lambda xp, x: xp.triu(x, k=1), X)],
    "arange": [
        (lambda xp, x: x * (xp.arange(3) * 0.1), X),
        (lambda xp, x: x / xp.arange(4)[1:], X),
    ],
    "asarray": [
        (lambda xp, x: xp.asarray(x > 0) * 0.3 + x, X),
        (lambda xp, x: xp.asarray([x[0], 2 * x[1]]), V),
        (lambda xp, x: x * xp.asarray([1, 2, 3]), X),
    ],
    "eye": [(lambda xp, x: x @ xp.eye(3), X)],
    "ones": [(lambda xp, x: x + xp.ones((2, 1)), X), (lambda xp, x: x + xp.ones(3), X)],
    "zeros": [(lambda xp, x: x + xp.zeros((2, 1)), X)],
    "ones_like": [(lambda xp, x: x + xp.ones_like(x), X)],
    "zeros_like": [(lambda xp, x: x + xp.zeros_like(x), X)],
    "e": [(lambda xp, x: x * xp.e, X)],
    "inf": [(lambda xp, x: xp.where(x > 0, x, -xp.inf), X)],
    "newaxis": [(lambda xp, x: x[:, xp.newaxis], V)],
    "pi": [(lambda xp, x: x * (xp.pi + 1), X)],
}

EPS = {"float64": 2**-52, "float32": 2**-23}
