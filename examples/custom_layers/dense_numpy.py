"""A dense layer with a sigmoid in NumPy, right and averaged once too often; both are verified.

    python examples/custom_layers/dense_numpy.py

Here the gradients of the weights are sums over the batch; the loss above them has its own 1/m. Who
divides in the layer too trains m times too slowly, and finds nothing wrong at a batch of one.
"""

import numpy as np

from gradcheck import load, verify_layer


def sigmoid(z):
    """1 / (1 + exp(-z)), without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


class Dense:
    """s = σ(x w + b)."""

    def __init__(self, features, outputs):
        self.w = np.zeros((features, outputs))
        self.b = np.zeros(outputs)

    def forward(self, x):
        """The output; x and z are kept."""
        self.x, self.z = x, x @ self.w + self.b
        return sigmoid(self.z)

    def backward(self, ds):
        """The gradient of x; those of w and b go to dw and db."""
        dz = ds * sigmoid(self.z) * sigmoid(-self.z)
        self.dw, self.db = self.x.T @ dz, dz.sum(0)
        return dz @ self.w.T


class AveragedTwice(Dense):
    """The same with dw divided by the size of the batch."""

    def backward(self, ds):
        """The gradient of x; those of w and b go to dw and db."""
        dx = super().backward(ds)
        self.dw = self.dw / max(len(self.x), 1)
        return dx


def verify(layer):
    """The report of one of them."""
    return verify_layer(
        layer,
        of=load("weighted_sum") >> load("sigmoid"),
        grads={"w": "dw", "b": "db"},
        oracles=["autograd", "differences"],
    )


if __name__ == "__main__":
    print(verify(Dense(4, 3)))
    print()
    print(verify(AveragedTwice(4, 3)))
