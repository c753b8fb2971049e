"""Backward pass of the weighted sum z = x w + b, as code computes it, with v = ∂L/∂z.

With ∂z[r,s]/∂x[t,u] = w[u,s] δ[r,t], ∂z[r,s]/∂w[t,u] = x[r,t] δ[s,u] and ∂z[r,s]/∂b[t] = δ[s,t]:

    ∂L/∂x[t,u] = Σ_rs v[r,s] w[u,s] δ[r,t] = Σ_s v[t,s] w[u,s]    v Wᵀ
    ∂L/∂w[t,u] = Σ_rs v[r,s] x[r,t] δ[s,u] = Σ_r x[r,t] v[r,u]    Xᵀ v
    ∂L/∂b[t]   = Σ_rs v[r,s] δ[s,t]        = Σ_r v[r,t]           1ᵀ v
"""

from gradcheck import Spec, einsum, load, real

weighted_sum_vjp = Spec(
    load("weighted_sum").forward,
    inputs={"x": real("m n"), "w": real("n o"), "b": real("o")},
    output={"z": "m o"},
    vjp={
        "x": einsum("ts,us->tu", "d(z)", "w"),
        "w": einsum("rt,ru->tu", "x", "d(z)"),
        "b": einsum("rt->t", "d(z)"),
    },
    source="notebook multiclass_classification_torch, 'weighted sum derivative, in general'",
)
