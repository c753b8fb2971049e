"""Binary cross-entropy with logits, L = 1/m Σ_i (log(1 + exp z[i]) - y[i] z[i]).

It is -1/m Σ_i (y log σ(z) + (1 - y) log(1 - σ(z))) with log σ(z) = z - log(1 + exp z) and
log(1 - σ(z)) = -log(1 + exp z), for targets y anywhere between 0 and 1.

    d/dz log(1 + exp z) = exp z / (1 + exp z) = σ(z)
    ∂L/∂z[p] = 1/m (σ(z[p]) - y[p])
    ∂L/∂y[p] = -1/m z[p]
"""

from gradcheck import Spec, einsum, real, size


def forward(xp, z, y):
    return xp.mean(xp.logaddexp(z, 0) - y * z)


def torch_bce_with_logits(z, y):
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(z, y)


binary_cross_entropy = Spec(
    forward,
    inputs={"z": real("m"), "y": real("m", 0, 1)},
    output={"L": ""},
    jacobian={
        "z": (einsum("p->p", "sigmoid(z)") - einsum("p->p", "y")) / size("m"),
        "y": -einsum("p->p", "z") / size("m"),
    },
    native={"torch": torch_bce_with_logits},
    source="Bishop, Pattern Recognition and Machine Learning (2006), equations 4.90 and 4.91",
)
