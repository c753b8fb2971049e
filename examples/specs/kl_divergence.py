"""Kullback-Leibler divergence of rows y from rows a, L = 1/m Σ_ij y[i,j] log(y[i,j] / a[i,j]).

Each entry of a and y occurs in one summand:

    ∂L/∂a[p,q] = -1/m y[p,q] / a[p,q]
    ∂L/∂y[p,q] = 1/m (log y[p,q] - log a[p,q] + y[p,q] / y[p,q])
               = 1/m (log y[p,q] - log a[p,q] + 1)

These are the derivatives in the single entries. Along a direction in which the rows of y keep their
sum the 1 drops out, as it is the same for every q.
"""

from gradcheck import Spec, einsum, ones, probability, size


def forward(xp, a, y):
    return xp.sum(y * (xp.log(y) - xp.log(a))) / a.shape[0]


def torch_kl_div(a, y):
    import torch

    return torch.nn.functional.kl_div(torch.log(a), y, reduction="batchmean")


kl_divergence = Spec(
    forward,
    inputs={"a": probability("m n"), "y": probability("m n")},
    output={"L": ""},
    jacobian={
        "a": -einsum("pq,pq->pq", "y", "a**-1") / size("m"),
        "y": (
            einsum("pq->pq", "log(y)") - einsum("pq->pq", "log(a)") + einsum("p,q->pq", ones, ones)
        )
        / size("m"),
    },
    native={"torch": torch_kl_div},
    source="Cover and Thomas, Elements of Information Theory (2006), section 2.3",
)
