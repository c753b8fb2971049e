"""Smooth maximum of each row, l[p] = log Σ_k exp z[p,k].

    ∂l[p]/∂z[r,s] = Σ_k exp z[p,k] δ[p,r] δ[k,s] / Σ_k exp z[p,k] = a[p,s] δ[p,r]

Here a[p,s] = exp(z[p,s] - l[p]), the softmax, is a residual of the forward. Its own derivative is

    ∂a[p,q]/∂z[r,s] = a[p,q] (δ[p,r] δ[q,s] - ∂l[p]/∂z[r,s]) = a[p,q] δ[p,r] (δ[q,s] - a[p,s])
"""

from gradcheck import Spec, delta, einsum, probability, real


def forward(xp, z):
    top = xp.logsumexp(z, axis=-1)
    return top, xp.exp(z - top[:, None])


def torch_logsumexp(z):
    import torch

    return torch.logsumexp(z, dim=-1)


def jax_logsumexp(z):
    import jax

    return jax.nn.logsumexp(z, axis=-1)


logsumexp = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"l": "m", "a": probability("m n")},
    jacobian={
        "z": einsum("ps,pr->prs", "a", delta),
        ("a", "z"): einsum("pq,pr,qs->pqrs", "a", delta, delta)
        - einsum("pq,ps,pr->pqrs", "a", "a", delta),
    },
    native={"torch": torch_logsumexp, "jax": jax_logsumexp},
    source="Blanchard, Higham and Higham, Accurately Computing the Log-Sum-Exp and Softmax "
    "Functions, IMA Journal of Numerical Analysis (2021)",
)
