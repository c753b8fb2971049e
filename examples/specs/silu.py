"""Sigmoid linear unit, h = z σ(z), with σ(z) = 1 / (1 + exp(-z)).

The product rule, with dσ/dz = σ (1 - σ):

    dh/dz = σ + z σ (1 - σ) = σ + z σ - z σ²

    ∂h[p,q]/∂z[r,s] = (σ + z σ - z σ²)[p,q] δ[p,r] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, z):
    return z * xp.sigmoid(z)


def torch_silu(z):
    import torch

    return torch.nn.functional.silu(z)


def jax_silu(z):
    import jax

    return jax.nn.silu(z)


silu = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"h": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "sigmoid(z)", delta, delta)
        + einsum("pq,pq,pr,qs->pqrs", "z", "sigmoid(z)", delta, delta)
        - einsum("pq,pq,pr,qs->pqrs", "z", "sigmoid(z)**2", delta, delta),
    },
    native={"torch": torch_silu, "jax": jax_silu},
    source="Elfwing, Uchibe and Doya, Sigmoid-Weighted Linear Units (2017), arXiv:1702.03118",
)
