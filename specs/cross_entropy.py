"""Cross-entropy of predicted and target probabilities, averaged over the samples.

Definition: L = -1/m Σ_i Σ_j y[i,j] log a[i,j]. The targets y may be one-hot or soft.

    ∂L/∂a[p,q] = -1/m Σ_i Σ_j y[i,j] / a[i,j] ∂a[i,j]/∂a[p,q]
               = -1/m Σ_i Σ_j y[i,j] / a[i,j] δ[i,p] δ[j,q]
               = -1/m y[p,q] / a[p,q]

No framework has this function by itself: torch's cross_entropy takes logits (it stands at
softmax_cross_entropy), and Keras renormalises the rows of a first, which changes the derivative.
"""

from gradcheck import Spec, constant, einsum, probability, size


def forward(xp, a, y):
    return -xp.sum(y * xp.log(a)) / a.shape[0]


cross_entropy = Spec(
    forward,
    inputs={"a": probability("m n"), "y": constant(probability("m n"))},
    output={"L": ""},
    jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
    source="notebook einsum_jacobians_vs_autograd, 'CE derivative'",
)
