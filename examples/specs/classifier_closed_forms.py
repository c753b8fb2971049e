"""Closed forms of a softmax classifier's gradients, (A - Y)/m carried on to the parameters.

With ∂L/∂z[r,s] = 1/m (a[r,s] - y[r,s]), because Σ_q y[r,q] = 1:

    ∂L/∂x[t,u] = Σ_rs ∂L/∂z[r,s] w[u,s] δ[r,t] = 1/m Σ_s (a[t,s] - y[t,s]) w[u,s]    (A - Y) Wᵀ / m
    ∂L/∂w[t,u] = Σ_rs ∂L/∂z[r,s] x[r,t] δ[s,u] = 1/m Σ_r x[r,t] (a[r,u] - y[r,u])    Xᵀ (A - Y) / m
    ∂L/∂b[t]   = Σ_rs ∂L/∂z[r,s] δ[s,t]        = 1/m Σ_r (a[r,t] - y[r,t])           1ᵀ (A - Y) / m
"""

from gradcheck import Spec, einsum, load, size

classifier_closed_forms = Spec(
    load("weighted_sum") >> load("softmax") >> load("cross_entropy"),
    jacobian={
        "x": (einsum("ts,us->tu", "a", "w") - einsum("ts,us->tu", "y", "w")) / size("m"),
        "w": (einsum("rt,ru->tu", "x", "a") - einsum("rt,ru->tu", "x", "y")) / size("m"),
        "b": (einsum("rt->t", "a") - einsum("rt->t", "y")) / size("m"),
    },
    source="notebook einsum_jacobians_vs_autograd, 'complete derivative'",
)
