"""Gaussian error linear unit, h = z Φ(z), with the normal distribution function Φ and density φ.

Definition: Φ(z) = (1 + erf(z/√2)) / 2 and φ(z) = exp(-z²/2) / √(2π).

    dΦ/dz = 1/2 · 2/√π exp(-z²/2) · 1/√2 = φ
    dφ/dz = -z φ
    dh/dz = Φ + z φ

All three hold entry by entry, hence the two deltas δ[p,r] δ[q,s].
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, z):
    cdf = (1 + xp.erf(z / xp.sqrt(2))) / 2
    pdf = xp.exp(-z * z / 2) / xp.sqrt(2 * xp.pi)
    return z * cdf, cdf, pdf


def torch_gelu(z):
    import torch

    return torch.nn.functional.gelu(z)


def jax_gelu(z):
    import jax

    return jax.nn.gelu(z, approximate=False)


gelu = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"h": "m n", "cdf": "m n", "pdf": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "cdf", delta, delta)
        + einsum("pq,pq,pr,qs->pqrs", "z", "pdf", delta, delta),
        ("cdf", "z"): einsum("pq,pr,qs->pqrs", "pdf", delta, delta),
        ("pdf", "z"): -einsum("pq,pq,pr,qs->pqrs", "z", "pdf", delta, delta),
    },
    native={"torch": torch_gelu, "jax": jax_gelu},
    source="Hendrycks and Gimpel, Gaussian Error Linear Units (2016), arXiv:1606.08415",
)
