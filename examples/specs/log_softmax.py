"""Logarithm of the row-wise softmax, l[p,q] = z[p,q] - log Σ_k exp z[p,k].

The second summand is the same for every q of a row:

    ∂/∂z[r,s] log Σ_k exp z[p,k] = exp z[p,s] δ[p,r] / Σ_k exp z[p,k] = exp l[p,s] δ[p,r]
    ∂l[p,q]/∂z[r,s] = δ[p,r] δ[q,s] - exp l[p,s] δ[p,r]
"""

from gradcheck import Spec, delta, einsum, ones, real


def forward(xp, z):
    return z - xp.logsumexp(z, axis=-1, keepdims=True)


def torch_log_softmax(z):
    import torch

    return torch.nn.functional.log_softmax(z, dim=-1)


def jax_log_softmax(z):
    import jax

    return jax.nn.log_softmax(z, axis=-1)


log_softmax = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"l": "m n"},
    jacobian={
        "z": einsum("pr,qs->pqrs", delta, delta) - einsum("ps,q,pr->pqrs", "exp(l)", ones, delta),
    },
    native={"torch": torch_log_softmax, "jax": jax_log_softmax},
    source="Blanchard, Higham and Higham, Accurately Computing the Log-Sum-Exp and Softmax "
    "Functions, IMA Journal of Numerical Analysis (2021)",
)
