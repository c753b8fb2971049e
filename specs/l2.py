"""Squared L2 norm of a matrix of weights, l = Σ_ij w[i,j]².

It is the penalty of weight decay; each entry of w occurs in one summand:

    ∂l/∂w[p,q] = Σ_ij 2 w[i,j] ∂w[i,j]/∂w[p,q] = Σ_ij 2 w[i,j] δ[i,p] δ[j,q] = 2 w[p,q]
"""

from gradcheck import Spec, einsum, real


def forward(xp, w):
    return xp.sum(w * w)


l2 = Spec(
    forward,
    inputs={"w": real("m n")},
    output={"l": ""},
    jacobian={"w": 2 * einsum("pq->pq", "w")},
    source="Goodfellow, Bengio and Courville, Deep Learning (2016), section 7.1.1",
)
