"""Cosine of the angle between the rows of two matrices, c[p] = Σ_k x[p,k] y[p,k] u[p] v[p].

The residuals are the reciprocal norms u[p] = (Σ_k x[p,k]²)^(-1/2) and v[p] = (Σ_k y[p,k]²)^(-1/2).

    ∂u[p]/∂x[r,s] = -1/2 u[p]³ 2 Σ_k x[p,k] δ[p,r] δ[k,s] = -u[p]³ x[p,s] δ[p,r]
    ∂c[p]/∂x[r,s] = y[p,s] u[p] v[p] δ[p,r] - Σ_k x[p,k] y[p,k] v[p] u[p]³ x[p,s] δ[p,r]
                  = (y[p,s] u[p] v[p] - c[p] u[p]² x[p,s]) δ[p,r]

and the same for y, with x and y, u and v exchanged; u does not see y, nor v x.
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, x, y):
    u = 1 / xp.sqrt(xp.sum(x * x, axis=-1))
    v = 1 / xp.sqrt(xp.sum(y * y, axis=-1))
    return xp.sum(x * y, axis=-1) * u * v, u, v


def torch_cosine_similarity(x, y):
    import torch

    return torch.nn.functional.cosine_similarity(x, y, dim=-1, eps=0)


cosine_similarity = Spec(
    forward,
    inputs={"x": real("m n"), "y": real("m n")},
    output={"c": "m", "u": "m", "v": "m"},
    jacobian={
        "x": einsum("ps,p,p,pr->prs", "y", "u", "v", delta)
        - einsum("p,p,ps,pr->prs", "c", "u**2", "x", delta),
        "y": einsum("ps,p,p,pr->prs", "x", "u", "v", delta)
        - einsum("p,p,ps,pr->prs", "c", "v**2", "y", delta),
        ("u", "x"): -einsum("p,ps,pr->prs", "u**3", "x", delta),
        ("u", "y"): 0,
        ("v", "x"): 0,
        ("v", "y"): -einsum("p,ps,pr->prs", "v**3", "y", delta),
    },
    native={"torch": torch_cosine_similarity},
    source="Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), "
    "section 6.3.1",
)
