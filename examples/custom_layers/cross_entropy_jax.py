"""Softmax and cross-entropy in one, as a `jax.custom_vjp`, right and with the sign of the error turned.

    python examples/custom_layers/cross_entropy_jax.py

The gradient is (a Σ_j y[i,j] - y)/m: predictions minus targets, where the rows of y sum to one. Who
thinks of the error as targets minus predictions climbs.
"""

import jax  # noqa: TID253 - the layer is written in it
import jax.numpy as jnp  # noqa: TID253

from gradcheck import constant, real, verify_layer


@jax.custom_vjp
def cross_entropy(z, y):
    """L = -1/m Σ y log softmax(z)."""
    return -jnp.sum(y * jax.nn.log_softmax(z)) / z.shape[0]


def cross_entropy_fwd(z, y):
    """The loss, and what the backward pass needs."""
    return cross_entropy(z, y), (jax.nn.softmax(z), y)


def cross_entropy_bwd(kept, dL):
    """(a Σ_j y[i,j] - y)/m."""
    a, y = kept
    return dL * (a * jnp.sum(y, axis=-1, keepdims=True) - y) / y.shape[0], None


cross_entropy.defvjp(cross_entropy_fwd, cross_entropy_bwd)


@jax.custom_vjp
def targets_minus_predictions(z, y):
    """The same loss."""
    return -jnp.sum(y * jax.nn.log_softmax(z)) / z.shape[0]


def targets_minus_predictions_bwd(kept, dL):
    """The same gradient with its sign turned."""
    a, y = kept
    return dL * (y - a * jnp.sum(y, axis=-1, keepdims=True)) / y.shape[0], None


targets_minus_predictions.defvjp(cross_entropy_fwd, targets_minus_predictions_bwd)


def forward(xp, z, y):
    """What both compute; the targets need not be one-hot, nor sum to one."""
    return -xp.sum(y * (z - xp.logsumexp(z, axis=-1, keepdims=True))) / z.shape[0]


def verify(function):
    """The report of one of them."""
    return verify_layer(
        function,
        of=forward,
        inputs={"z": real("m n"), "y": constant(real("m n", 0, 1))},
        oracles=["jax", "differences"],
    )


if __name__ == "__main__":
    print(verify(cross_entropy))
    print()
    print(verify(targets_minus_predictions))
