"""Transpose of a matrix, t = xᵀ.

Definition: t[p,q] = x[q,p].

    ∂t[p,q]/∂x[r,s] = ∂x[q,p]/∂x[r,s] = δ[q,r] δ[p,s]
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, x):
    return xp.matrix_transpose(x)


def torch_transpose(x):
    import torch

    return torch.transpose(x, 0, 1)


def tensorflow_transpose(x):
    import tensorflow as tf

    return tf.transpose(x)


transpose = Spec(
    forward,
    inputs={"x": real("m n")},
    output={"t": "n m"},
    jacobian={"x": einsum("qr,ps->pqrs", delta, delta)},
    native={"torch": torch_transpose, "tensorflow": tensorflow_transpose},
    source="Magnus and Neudecker, Matrix Differential Calculus, chapter 3: the commutation matrix",
)
