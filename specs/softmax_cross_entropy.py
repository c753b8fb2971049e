"""Closed form of a classifier's last two links: the gradient of cross_entropy(softmax(z), y) in z.

With ∂L/∂a[p,q] = -1/m y[p,q] / a[p,q] and ∂a[p,q]/∂z[r,s] = a[p,q] δ[p,r] (δ[q,s] - a[p,s]):

    ∂L/∂z[r,s] = Σ_pq ∂L/∂a[p,q] ∂a[p,q]/∂z[r,s]
               = -1/m Σ_pq y[p,q] δ[p,r] (δ[q,s] - a[p,s])
               = -1/m (y[r,s] - a[r,s] Σ_q y[r,q])
               = 1/m (a[r,s] - y[r,s]), because Σ_q y[r,q] = 1

The targets may be one-hot or soft; that they sum to one is what the last step needs.
"""

from gradcheck import Spec, einsum, load, size


def torch_cross_entropy(z, y):
    import torch

    return torch.nn.functional.cross_entropy(z, y)


def tensorflow_cross_entropy(z, y):
    import tensorflow as tf

    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z))


softmax_cross_entropy = Spec(
    load("softmax") >> load("cross_entropy"),
    jacobian={"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")},
    native={"torch": torch_cross_entropy, "tensorflow": tensorflow_cross_entropy},
    source="notebook einsum_jacobians_vs_autograd, 'complete derivative, respect to z'",
)
