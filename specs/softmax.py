"""Row-wise softmax, a[p,q] = exp z[p,q] / Σ_k exp z[p,k].

With e[p,q] = exp z[p,q] and its row sums t[p] = Σ_k e[p,k]:

    ∂e[p,q]/∂z[r,s] = e[p,q] δ[p,r] δ[q,s]
    ∂t[p]/∂z[r,s]   = Σ_k e[p,k] δ[p,r] δ[k,s] = e[p,s] δ[p,r]
    ∂a[p,q]/∂z[r,s] = (e[p,q] δ[p,r] δ[q,s] t[p] - e[p,q] e[p,s] δ[p,r]) / t[p]²
                    = a[p,q] δ[p,r] δ[q,s] - a[p,q] a[p,s] δ[p,r]

Subtracting the largest entry of a row changes neither a nor its derivative: a does not see a number
that is added to a whole row. It keeps exp from overflowing.
"""

from gradcheck import Spec, delta, einsum, probability, real


def forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def torch_softmax(z):
    import torch

    return torch.nn.functional.softmax(z, dim=-1)


def jax_softmax(z):
    import jax

    return jax.nn.softmax(z, axis=-1)


def tensorflow_softmax(z):
    import tensorflow as tf

    return tf.nn.softmax(z, axis=-1)


softmax = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"a": probability("m n")},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
        - einsum("pq,ps,pr->pqrs", "a", "a", delta),
    },
    native={"torch": torch_softmax, "jax": jax_softmax, "tensorflow": tensorflow_softmax},
    source="notebook einsum_jacobians_vs_autograd, 'Softmax derivative'",
)
