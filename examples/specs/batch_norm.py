"""Batch normalisation in training mode, h[p,q] = g[q] x̂[p,q] + b[q].

Each feature is centred and scaled over the m samples of the batch: c[p,q] = x[p,q] - μ[q],
μ[q] = 1/m Σ_i x[i,q], v[q] = 1/m Σ_i c[i,q]², r[q] = (v[q] + ε)^(-1/2) and x̂[p,q] = c[p,q] r[q].

    ∂c[p,q]/∂x[r,s] = δ[q,s] (δ[p,r] - 1/m)
    ∂v[q]/∂x[r,s]   = 2/m Σ_i c[i,q] δ[q,s] (δ[i,r] - 1/m) = 2/m c[r,q] δ[q,s], as Σ_i c[i,q] = 0
    ∂r[q]/∂x[r,s]   = -1/2 r[q]³ ∂v[q]/∂x[r,s] = -1/m r[q]³ c[r,q] δ[q,s]
                    = -1/m r[q]² x̂[r,q] δ[q,s]
    ∂x̂[p,q]/∂x[r,s] = r[q] δ[q,s] (δ[p,r] - 1/m - 1/m x̂[p,q] x̂[r,q])
    ∂h[p,q]/∂x[r,s] = g[q] ∂x̂[p,q]/∂x[r,s]
    ∂h[p,q]/∂g[r]   = x̂[p,q] δ[q,r]
    ∂h[p,q]/∂b[r]   = δ[q,r]

x̂ (`normal`) and r are residuals; neither sees g or b.
"""

from gradcheck import Spec, delta, einsum, number, ones, real, size


def forward(xp, x, g, b, *, eps):
    centred = x - xp.mean(x, axis=0)
    r = 1 / xp.sqrt(xp.mean(centred * centred, axis=0) + eps)
    normal = centred * r
    return g * normal + b, normal, r


normal_x = (
    einsum("q,pr,qs->pqrs", "r", delta, delta)
    - einsum("q,p,r,qs->pqrs", "r", ones, ones, delta) / size("m")
    - einsum("q,pq,rq,qs->pqrs", "r", "normal", "normal", delta) / size("m")
)

batch_norm = Spec(
    forward,
    inputs={"x": real("m n"), "g": real("n"), "b": real("n")},
    params={"eps": number(1e-8, 1e-3)},
    output={"h": "m n", "normal": "m n", "r": "n"},
    jacobian={
        "x": einsum("q,pqrs->pqrs", "g", normal_x),
        "g": einsum("pq,qr->pqr", "normal", delta),
        "b": einsum("p,qr->pqr", ones, delta),
        ("normal", "x"): normal_x,
        ("normal", "g"): 0,
        ("normal", "b"): 0,
        ("r", "x"): -einsum("q,rq,qs->qrs", "r**2", "normal", delta) / size("m"),
        ("r", "g"): 0,
        ("r", "b"): 0,
    },
    source="Ioffe and Szegedy, Batch Normalization (2015), arXiv:1502.03167, section 3",
)
