"""Root-mean-square normalisation, h[p,q] = g[q] x[p,q] r[p].

The reciprocal of the root mean square is r[p] = (1/n Σ_k x[p,k]² + ε)^(-1/2).

    ∂r[p]/∂x[r,s]   = -1/2 r[p]³ 2/n Σ_k x[p,k] δ[p,r] δ[k,s] = -1/n r[p]³ x[p,s] δ[p,r]
    ∂h[p,q]/∂x[r,s] = g[q] r[p] δ[p,r] δ[q,s] - 1/n g[q] x[p,q] x[p,s] r[p]³ δ[p,r]
    ∂h[p,q]/∂g[r]   = x[p,q] r[p] δ[q,r]

The residual r, which does not see g, has claims of its own, for whoever differentiates a second time.
"""

from gradcheck import Spec, delta, einsum, number, real, size


def forward(xp, x, g, *, eps):
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + eps)
    return g * x * r[:, None], r


def torch_rms_norm(x, g, *, eps):
    import torch

    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight=g, eps=eps)


rms_norm = Spec(
    forward,
    inputs={"x": real("m n"), "g": real("n")},
    params={"eps": number(1e-8, 1e-3)},
    output={"h": "m n", "r": "m"},
    jacobian={
        "x": einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)
        - einsum("q,pq,ps,p,pr->pqrs", "g", "x", "x", "r**3", delta) / size("n"),
        "g": einsum("pq,p,qr->pqr", "x", "r", delta),
        ("r", "x"): -einsum("p,ps,pr->prs", "r**3", "x", delta) / size("n"),
        ("r", "g"): 0,
    },
    native={"torch": torch_rms_norm},
    source="Zhang and Sennrich, Root Mean Square Layer Normalization (2019), arXiv:1910.07467",
)
