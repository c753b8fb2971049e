"""Weighted sum with any number of leading axes, z[...,s] = Σ_k x[...,k] w[k,s] + b[s].

The derivatives are those of one slice: a vector x, a vector z. The leading axes are carried along;
x has them too, and each slice of z depends on its own slice of x only; w and b are shared.

    ∂z[s]/∂x[u]   = Σ_k δ[k,u] w[k,s] = w[u,s]
    ∂z[s]/∂w[t,u] = Σ_k x[k] δ[k,t] δ[s,u] = x[t] δ[s,u]
    ∂z[s]/∂b[t]   = δ[s,t]
"""

from gradcheck import Spec, delta, einsum, real


def forward(xp, x, w, b):
    return xp.matmul(x, w) + b


def torch_linear(x, w, b):
    import torch

    return torch.nn.functional.linear(x, w.T, b)


linear = Spec(
    forward,
    inputs={"x": real("... n"), "w": real("n o"), "b": real("o")},
    output={"z": "... o"},
    jacobian={
        "x": einsum("us->su", "w"),
        "w": einsum("t,su->stu", "x", delta),
        "b": einsum("st->st", delta),
    },
    native={"torch": torch_linear},
    source="notebook einsum_jacobians_vs_autograd, 'Weighted sum derivative', one sample at a time",
)
