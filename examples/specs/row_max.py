"""Largest entry of each row, t[p] = max_k z[p,k].

Where a row has one largest entry, t[p] = Σ_k g[p,k] z[p,k] with a selector g that is 1 there and 0
elsewhere, and stays as it is in a neighbourhood:

    ∂t[p]/∂z[r,s] = Σ_k g[p,k] δ[p,r] δ[k,s] = g[p,s] δ[p,r]

Where several entries tie, every convex combination of their selectors is an element of the
subdifferential; the forward's residual g shares the row out among them equally. Away from ties g
does not change with z, so that ∂g[p,q]/∂z[r,s] = 0; at a tie it jumps and has no derivative.
"""

from gradcheck import Spec, delta, einsum, probability, real


def forward(xp, z):
    top = xp.max(z, axis=-1)
    largest = xp.where(xp.equal(z, top[:, None]), xp.ones_like(z), xp.zeros_like(z))
    return top, largest / xp.sum(largest, axis=-1, keepdims=True)


def torch_amax(z):
    import torch

    return torch.amax(z, dim=-1)


def jax_max(z):
    import jax

    return jax.numpy.max(z, axis=-1)


def autograd_max(z):
    import autograd.numpy

    return autograd.numpy.max(z, axis=-1)


row_max = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"t": "m", "g": probability("m n")},
    jacobian={"z": einsum("ps,pr->prs", "g", delta), ("g", "z"): 0},
    native={"torch": torch_amax, "jax": jax_max, "autograd": autograd_max},
    source="Clarke, Optimization and Nonsmooth Analysis (1983), section 2.3: pointwise maxima",
)
