"""Backward pass of the row-wise softmax, as code computes it: ∂L/∂z = a ⊙ (v - (v ⊙ a) 1).

With v = ∂L/∂a and ∂a[p,q]/∂z[r,s] = a[p,q] δ[p,r] δ[q,s] - a[p,q] a[p,s] δ[p,r]:

    ∂L/∂z[r,s] = Σ_pq v[p,q] ∂a[p,q]/∂z[r,s]
               = v[r,s] a[r,s] - Σ_q v[r,q] a[r,q] a[r,s]
               = a[r,s] (v[r,s] - Σ_q v[r,q] a[r,q])
"""

from gradcheck import Spec, einsum, load, probability, real

softmax_vjp = Spec(
    load("softmax").forward,
    inputs={"z": real("m n")},
    output={"a": probability("m n")},
    vjp={
        "z": einsum("pq,pq->pq", "a", "d(a)") - einsum("pq,ps,ps->pq", "a", "a", "d(a)"),
    },
    source="notebook multiclass_classification_torch, 'softmax derivative, in general'",
)
