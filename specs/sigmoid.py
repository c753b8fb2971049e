"""Elementwise logistic function, s[p,q] = 1 / (1 + exp(-z[p,q])).

Of one number, and then of all entries at once:

    ds/dz = exp(-z) / (1 + exp(-z))² = s exp(-z) / (1 + exp(-z)) = s (1 - s)

    ∂s[p,q]/∂z[r,s] = (s[p,q] - s[p,q]²) δ[p,r] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, z):
    return xp.sigmoid(z)


def torch_sigmoid(z):
    import torch

    return torch.sigmoid(z)


def jax_sigmoid(z):
    import jax

    return jax.nn.sigmoid(z)


def tensorflow_sigmoid(z):
    import tensorflow as tf

    return tf.math.sigmoid(z)


sigmoid = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"s": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "s", delta, delta)
        - einsum("pq,pr,qs->pqrs", "s**2", delta, delta),
    },
    native={"torch": torch_sigmoid, "jax": jax_sigmoid, "tensorflow": tensorflow_sigmoid},
    source="notebook sigmoid_softmax_regressor_numpy, 'sigmoid_gradient'",
)
