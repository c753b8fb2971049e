"""Dropout with a given mask, h[p,q] = x[p,q] k[p,q] / keep: 'inverted', so that the mean is kept.

The mask k and the probability `keep` of an entry to survive are constants:

    ∂h[p,q]/∂x[r,s] = 1/keep k[p,q] δ[p,r] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, mask, number, real


def forward(xp, x, k, *, keep):
    return xp.multiply(x, k) / keep


dropout = Spec(
    forward,
    inputs={"x": real("m n"), "k": mask("m n")},
    params={"keep": number(0.1, 1)},
    output={"h": "m n"},
    jacobian={"x": einsum("pq,,pr,qs->pqrs", "k", "keep**-1", delta, delta)},
    source="Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014)",
)
