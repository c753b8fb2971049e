"""Self-attention as a graph: queries, keys and values are projections of the same rows x.

h = softmax(q kᵀ / √d) v with q = x wq, k = x wk, v = x wv. The variable x reaches h on three paths
and its gradient is the sum over them; wq, wk and wv have one path each:

    ∂h/∂x = ∂h/∂q ∂q/∂x + ∂h/∂k ∂k/∂x + ∂h/∂v ∂v/∂x

The keys are as many as the queries here: the two axes of the scores, which are distinct in
`scores`, become one axis when both are projected from x.
"""

from fractions import Fraction

from gradcheck import Spec, delta, einsum, load, real, size


def product(xp, x, w):
    return xp.matmul(x, w)


project = Spec(
    product,
    inputs={"x": real("m n"), "w": real("n d")},
    output={"y": "m d"},
    jacobian={
        "x": einsum("us,rt->rstu", "w", delta),
        "w": einsum("rt,su->rstu", "x", delta),
    },
    source="notebook einsum_jacobians_vs_autograd, 'Weighted sum derivative', without the bias",
)


def scaled_products(xp, q, k):
    return xp.einsum("pc,jc->pj", q, k) / xp.sqrt(q.shape[1])


scores = Spec(
    scaled_products,
    inputs={"q": real("m d"), "k": real("n d")},
    output={"z": "m n"},
    jacobian={
        "q": einsum("jc,pr->pjrc", "k", delta) * size("d") ** Fraction(-1, 2),
        "k": einsum("pc,js->pjsc", "q", delta) * size("d") ** Fraction(-1, 2),
    },
    source="Vaswani et al., Attention Is All You Need (2017), arXiv:1706.03762, section 3.2.1",
)

self_attention = project(
    load("softmax")(scores(project("x", "wq"), project("x", "wk"))), project("x", "wv")
)
