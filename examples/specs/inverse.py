"""Inverse of a matrix, b = a⁻¹.

From Σ_k a[i,k] b[k,j] = δ[i,j], differentiated in a[r,s]:

    Σ_k δ[i,r] δ[k,s] b[k,j] + Σ_k a[i,k] ∂b[k,j]/∂a[r,s] = 0
    Σ_k a[i,k] ∂b[k,j]/∂a[r,s] = -δ[i,r] b[s,j]

and, multiplied by b[p,i] and summed over i, with j renamed to q:

    ∂b[p,q]/∂a[r,s] = -b[p,r] b[s,q]
"""

from gradcheck import Spec, einsum, real


def forward(xp, a):
    return xp.linalg.inv(a)


def torch_inverse(a):
    import torch

    return torch.linalg.inv(a)


def jax_inverse(a):
    import jax

    return jax.numpy.linalg.inv(a)


def autograd_inverse(a):
    import autograd.numpy

    return autograd.numpy.linalg.inv(a)


inverse = Spec(
    forward,
    inputs={"a": real("n n")},
    output={"b": "n n"},
    jacobian={"a": -einsum("pr,sq->pqrs", "b", "b")},
    native={"torch": torch_inverse, "jax": jax_inverse, "autograd": autograd_inverse},
    source="Petersen and Pedersen, The Matrix Cookbook (2012), equation 60",
)
