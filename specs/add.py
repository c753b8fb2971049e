"""Sum of two arrays of one shape, s = a + b: the meeting point of a residual connection.

Definition: s[p,q] = a[p,q] + b[p,q].

    ∂s[p,q]/∂a[r,t] = δ[p,r] δ[q,t], and the same for b
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, a, b):
    return xp.add(a, b)


def torch_add(a, b):
    import torch

    return torch.add(a, b)


add = Spec(
    forward,
    inputs={"a": real("m n"), "b": real("m n")},
    output={"s": "m n"},
    jacobian={
        "a": einsum("pr,qt->pqrt", delta, delta),
        "b": einsum("pr,qt->pqrt", delta, delta),
    },
    native={"torch": torch_add},
    source="He, Zhang, Ren and Sun, Deep Residual Learning (2015), arXiv:1512.03385, equation 1",
)
