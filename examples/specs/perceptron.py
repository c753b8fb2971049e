"""Perceptrons of two layers with an L2 penalty, as graphs of the bundled specs.

`perceptron` has two matrices of weights and penalises the first:

    L = cross_entropy(softmax(relu(x w1 + b1) w2 + b2), y) + Σ w1²

`tied_perceptron` has one: its second layer uses the transpose of the first one's weights, so that
w reaches L on three paths, and its gradient is the sum over them:

    ∂L/∂w = ∂L/∂z₁ ∂z₁/∂w + ∂L/∂z₂ ∂z₂/∂t ∂t/∂w + 2 w, with t = wᵀ

There are as many classes as features in it.
"""

from gradcheck import load


def hidden(w):
    return load("relu")(load("weighted_sum")("x", w, "b1"))


def loss(h, w):
    return load("cross_entropy")(load("softmax")(load("weighted_sum")(h, w, "b2")), "y")


perceptron = loss(hidden("w1"), "w2") + load("l2")("w1")

tied_perceptron = loss(hidden("w"), load("transpose")("w")) + load("l2")("w")
