"""Mean squared error, L = 1/(m n) Σ_ij (a[i,j] - y[i,j])².

Each entry of a and of y occurs in one summand, the targets with the other sign:

    ∂L/∂a[p,q] = 1/(m n) Σ_ij 2 (a[i,j] - y[i,j]) δ[i,p] δ[j,q] = 2/(m n) (a[p,q] - y[p,q])
    ∂L/∂y[p,q] = -∂L/∂a[p,q]
"""

from gradcheck import Spec, einsum, real, size


def forward(xp, a, y):
    return xp.mean((a - y) * (a - y))


def torch_mse_loss(a, y):
    import torch

    return torch.nn.functional.mse_loss(a, y)


mean_squared_error = Spec(
    forward,
    inputs={"a": real("m n"), "y": real("m n")},
    output={"L": ""},
    jacobian={
        "a": 2 * (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m") / size("n"),
        "y": 2 * (einsum("pq->pq", "y") - einsum("pq->pq", "a")) / size("m") / size("n"),
    },
    native={"torch": torch_mse_loss},
    source="Goodfellow, Bengio and Courville, Deep Learning (2016), section 5.1.4",
)
