"""Scaled dot-product attention of m queries over n keys, as one spec and as a graph.

Scores z[p,j] = d^(-1/2) Σ_c q[p,c] k[j,c], weights a = softmax(z) by rows, and their result
h[p,u] = Σ_j a[p,j] v[j,u].

    ∂z[p,j]/∂q[r,c] = d^(-1/2) k[j,c] δ[p,r]
    ∂z[p,j]/∂k[s,c] = d^(-1/2) q[p,c] δ[j,s]
    ∂h[p,u]/∂a[r,j] = v[j,u] δ[p,r]
    ∂h[p,u]/∂v[j,t] = a[p,j] δ[u,t]
    ∂h[p,u]/∂z[p,j] = Σ_i v[i,u] (a[p,i] δ[i,j] - a[p,i] a[p,j]) = a[p,j] (v[j,u] - h[p,u])

The one spec has the product of these:

    ∂h[p,u]/∂q[r,c] = d^(-1/2) Σ_j a[p,j] (v[j,u] - h[p,u]) k[j,c] δ[p,r]
    ∂h[p,u]/∂k[j,c] = d^(-1/2) a[p,j] (v[j,u] - h[p,u]) q[p,c]

and its residual a, which does not see v:

    ∂a[p,j]/∂q[r,c] = d^(-1/2) a[p,j] (k[j,c] - Σ_i a[p,i] k[i,c]) δ[p,r]
    ∂a[p,j]/∂k[s,c] = d^(-1/2) a[p,j] (δ[j,s] - a[p,s]) q[p,c]

The graph has only the local derivatives of `scores` and `mix`; the chain rule does the rest.
"""

from fractions import Fraction

from gradcheck import Spec, delta, einsum, load, probability, real, size


def forward(xp, q, k, v):
    z = xp.einsum("pc,jc->pj", q, k) / xp.sqrt(q.shape[1])
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    a = e / xp.sum(e, axis=-1, keepdims=True)
    return xp.matmul(a, v), a


def torch_attention(q, k, v):
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


scale = size("d") ** Fraction(-1, 2)

through_softmax = einsum("pj,ju->puj", "a", "v") - einsum("pj,pu->puj", "a", "h")

attention = Spec(
    forward,
    inputs={"q": real("m d"), "k": real("n d"), "v": real("n o")},
    output={"h": "m o", "a": probability("m n")},
    jacobian={
        "q": einsum("puj,jc,pr->purc", through_softmax, "k", delta) * scale,
        "k": einsum("puj,pc->pujc", through_softmax, "q") * scale,
        "v": einsum("pj,ut->pujt", "a", delta),
        ("a", "q"): einsum("pj,jc,pr->pjrc", "a", "k", delta) * scale
        - einsum("pj,pi,ic,pr->pjrc", "a", "a", "k", delta) * scale,
        ("a", "k"): einsum("pj,js,pc->pjsc", "a", delta, "q") * scale
        - einsum("pj,ps,pc->pjsc", "a", "a", "q") * scale,
        ("a", "v"): 0,
    },
    native={"torch": torch_attention},
    source="Vaswani et al., Attention Is All You Need (2017), arXiv:1706.03762, equation 1",
)


def scaled_products(xp, q, k):
    return xp.einsum("pc,jc->pj", q, k) / xp.sqrt(q.shape[1])


scores = Spec(
    scaled_products,
    inputs={"q": real("m d"), "k": real("n d")},
    output={"z": "m n"},
    jacobian={
        "q": einsum("jc,pr->pjrc", "k", delta) * scale,
        "k": einsum("pc,js->pjsc", "q", delta) * scale,
    },
    source="Vaswani et al., Attention Is All You Need (2017), arXiv:1706.03762, section 3.2.1",
)


def weighted_rows(xp, a, v):
    return xp.matmul(a, v)


mix = Spec(
    weighted_rows,
    inputs={"a": real("m n"), "v": real("n o")},
    output={"h": "m o"},
    jacobian={
        "a": einsum("ju,pr->purj", "v", delta),
        "v": einsum("pj,ut->pujt", "a", delta),
    },
    source="Vaswani et al., Attention Is All You Need (2017), arXiv:1706.03762, section 3.2.1",
)

attention_graph = mix(load("softmax")(scores("q", "k")), "v")
