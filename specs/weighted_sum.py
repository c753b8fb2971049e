"""Weighted sum with a bias, z = x w + b.

Definition: z[r,s] = Σ_k x[r,k] w[k,s] + b[s], for m samples, n features and o outputs.

    ∂z[r,s]/∂x[t,u] = Σ_k ∂x[r,k]/∂x[t,u] w[k,s] = Σ_k δ[r,t] δ[k,u] w[k,s] = w[u,s] δ[r,t]
    ∂z[r,s]/∂w[t,u] = Σ_k x[r,k] ∂w[k,s]/∂w[t,u] = Σ_k x[r,k] δ[k,t] δ[s,u] = x[r,t] δ[s,u]
    ∂z[r,s]/∂b[t]   = δ[s,t], the same for every sample r
"""

from gradcheck import Spec, delta, einsum, ones, real


def forward(xp, x, w, b):
    return xp.matmul(x, w) + b


def torch_addmm(x, w, b):
    import torch

    return torch.addmm(b, x, w)


def tensorflow_matmul(x, w, b):
    import tensorflow as tf

    return tf.linalg.matmul(x, w) + b


weighted_sum = Spec(
    forward,
    inputs={"x": real("m n"), "w": real("n o"), "b": real("o")},
    output={"z": "m o"},
    jacobian={
        "x": einsum("us,rt->rstu", "w", delta),
        "w": einsum("rt,su->rstu", "x", delta),
        "b": einsum("r,st->rst", ones, delta),
    },
    native={"torch": torch_addmm, "tensorflow": tensorflow_matmul},
    source="notebook einsum_jacobians_vs_autograd, 'Weighted sum derivative'",
)
