"""Gated linear unit with a SiLU gate, h = silu(u) ⊙ c, with u = x w and c = x v.

With silu(u) = u σ(u) and its slope g = σ(u) + u σ(u) - u σ(u)², all three entry by entry:

    ∂u[p,q]/∂x[r,t] = w[t,q] δ[p,r]        ∂u[p,q]/∂w[t,s] = x[p,t] δ[q,s]
    ∂c[p,q]/∂x[r,t] = v[t,q] δ[p,r]        ∂c[p,q]/∂v[t,s] = x[p,t] δ[q,s]
    ∂h[p,q]/∂x[r,t] = c[p,q] g[p,q] w[t,q] δ[p,r] + u[p,q] σ(u)[p,q] v[t,q] δ[p,r]
    ∂h[p,q]/∂w[t,s] = c[p,q] g[p,q] x[p,t] δ[q,s]
    ∂h[p,q]/∂v[t,s] = u[p,q] σ(u)[p,q] x[p,t] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, x, w, v):
    u = xp.matmul(x, w)
    c = xp.matmul(x, v)
    return u * xp.sigmoid(u) * c, u, c


gate = einsum("pq,pq->pq", "u", "sigmoid(u)")
slope = einsum("pq->pq", "sigmoid(u)") + gate - einsum("pq,pq->pq", "u", "sigmoid(u)**2")

swiglu = Spec(
    forward,
    inputs={"x": real("m n"), "w": real("n o"), "v": real("n o")},
    output={"h": "m o", "u": "m o", "c": "m o"},
    jacobian={
        "x": einsum("pq,pq,tq,pr->pqrt", "c", slope, "w", delta)
        + einsum("pq,tq,pr->pqrt", gate, "v", delta),
        "w": einsum("pq,pq,pt,qs->pqts", "c", slope, "x", delta),
        "v": einsum("pq,pt,qs->pqts", gate, "x", delta),
        ("u", "x"): einsum("tq,pr->pqrt", "w", delta),
        ("u", "w"): einsum("pt,qs->pqts", "x", delta),
        ("u", "v"): 0,
        ("c", "x"): einsum("tq,pr->pqrt", "v", delta),
        ("c", "w"): 0,
        ("c", "v"): einsum("pt,qs->pqts", "x", delta),
    },
    source="Shazeer, GLU Variants Improve Transformer (2020), arXiv:2002.05202",
)
