"""Elementwise rectifier, h[p,q] = max(z[p,q], 0).

    dh/dz = 1 where z > 0, and 0 where z < 0: the unit step of z

    ∂h[p,q]/∂z[r,s] = step(z[p,q]) δ[p,r] δ[q,s]

At z = 0 the two one-sided derivatives are 0 and 1; frameworks give an element between them (torch
0, a two-argument maximum ½).
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, z):
    return xp.maximum(z, 0)


def torch_relu(z):
    import torch

    return torch.relu(z)


def jax_relu(z):
    import jax

    return jax.nn.relu(z)


def tensorflow_relu(z):
    import tensorflow as tf

    return tf.nn.relu(z)


relu = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"h": "m n"},
    jacobian={"z": einsum("pq,pr,qs->pqrs", "step(z)", delta, delta)},
    native={"torch": torch_relu, "jax": jax_relu, "tensorflow": tensorflow_relu},
    source="Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.3.1",
)
