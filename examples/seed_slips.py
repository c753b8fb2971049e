"""Three slips in the seeds' derivations, each as a claim: all three are refuted.

`softmax_rule` is what the code of sigmoid_softmax_regressor_numpy makes of the softmax Jacobian. In
the row of the true class t its `(targets - preds) * preds` is a[p,s] δ[t,s] - a[p,s] a[p,s]:

    ∂a[p,q]/∂z[r,s] = a[p,q] δ[p,r] δ[q,s] - a[p,s] a[p,s] δ[p,r]         a[p,s] for a[p,q]

`missing_brackets` is a line of einsum_jacobians_vs_autograd ('complete derivative, respect to z') as
it stands. The lines before and after it are right:

    ∂L/∂z[r,s] = -1/m Σ_q y[r,q] δ[q,s] - Σ_q y[r,q] a[r,s]               -1/m (… - …) is meant

`any_targets` is (A - Y)/m for positive targets that need not sum to one. The same notebook says that
its last step holds because the targets are one-hot; it needs less, that each row sums to one (soft
targets will do: softmax_cross_entropy), but it does need that:

    ∂L/∂z[r,s] = 1/m (a[r,s] Σ_q y[r,q] - y[r,s])                         for any targets
"""

from gradcheck import Spec, constant, delta, einsum, load, ones, positive, real, size

_links = load("softmax") >> load("cross_entropy")

softmax_rule = Spec(
    load("softmax").forward,
    inputs={"z": real("m n")},
    output={"a": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
        - einsum("q,ps,ps,pr->pqrs", ones, "a", "a", delta)
    },
    source="notebook sigmoid_softmax_regressor_numpy, 'softmax_true_gradient'",
)

missing_brackets = Spec(
    _links,
    jacobian={
        "z": -einsum("rq,qs->rs", "y", delta) / size("m") - einsum("rq,rs->rs", "y", "a"),
    },
    source="notebook einsum_jacobians_vs_autograd, 'complete derivative, respect to z', line 7",
)

any_targets = Spec(
    _links,
    inputs={"y": constant(positive("m n"))},
    jacobian={"z": (einsum("rs->rs", "a") - einsum("rs->rs", "y")) / size("m")},
    source="notebook einsum_jacobians_vs_autograd, the note on one-hot targets",
)
