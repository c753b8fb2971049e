"""Layer normalisation with gain and bias, h[p,q] = g[q] x̂[p,q] + b[q].

Each row is centred and scaled: c[p,q] = x[p,q] - μ[p], μ[p] = 1/n Σ_k x[p,k],
v[p] = 1/n Σ_k c[p,k]², r[p] = (v[p] + ε)^(-1/2) and x̂[p,q] = c[p,q] r[p].

    ∂c[p,q]/∂x[r,s] = δ[p,r] (δ[q,s] - 1/n)
    ∂v[p]/∂x[r,s]   = 2/n Σ_k c[p,k] δ[p,r] (δ[k,s] - 1/n) = 2/n c[p,s] δ[p,r], as Σ_k c[p,k] = 0
    ∂r[p]/∂x[r,s]   = -1/2 r[p]³ ∂v[p]/∂x[r,s] = -1/n r[p]³ c[p,s] δ[p,r]
                    = -1/n r[p]² x̂[p,s] δ[p,r]
    ∂x̂[p,q]/∂x[r,s] = r[p] δ[p,r] (δ[q,s] - 1/n) - 1/n c[p,q] c[p,s] r[p]³ δ[p,r]
                     = r[p] δ[p,r] (δ[q,s] - 1/n - 1/n x̂[p,q] x̂[p,s])
    ∂h[p,q]/∂x[r,s] = g[q] ∂x̂[p,q]/∂x[r,s]
    ∂h[p,q]/∂g[r]   = x̂[p,q] δ[q,r]
    ∂h[p,q]/∂b[r]   = δ[q,r]

x̂ (`normal`) and r are residuals; neither sees g or b.
"""

from gradcheck import Spec, delta, einsum, number, ones, real, size


def forward(xp, x, g, b, *, eps):
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    r = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1) + eps)
    normal = centred * r[:, None]
    return g * normal + b, normal, r


def torch_layer_norm(x, g, b, *, eps):
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight=g, bias=b, eps=eps)


normal_x = (
    einsum("p,pr,qs->pqrs", "r", delta, delta)
    - einsum("p,q,pr,s->pqrs", "r", ones, delta, ones) / size("n")
    - einsum("p,pq,ps,pr->pqrs", "r", "normal", "normal", delta) / size("n")
)

layer_norm = Spec(
    forward,
    inputs={"x": real("m n"), "g": real("n"), "b": real("n")},
    params={"eps": number(1e-8, 1e-3)},
    output={"h": "m n", "normal": "m n", "r": "m"},
    jacobian={
        "x": einsum("q,pqrs->pqrs", "g", normal_x),
        "g": einsum("pq,qr->pqr", "normal", delta),
        "b": einsum("p,qr->pqr", ones, delta),
        ("normal", "x"): normal_x,
        ("normal", "g"): 0,
        ("normal", "b"): 0,
        ("r", "x"): -einsum("p,ps,pr->prs", "r**2", "normal", delta) / size("n"),
        ("r", "g"): 0,
        ("r", "b"): 0,
    },
    native={"torch": torch_layer_norm},
    source="Ba, Kiros and Hinton, Layer Normalization (2016), arXiv:1607.06450",
)
