"""Embedding, e[p,q] = w[t[p],q]: row t[p] of a table for each of the integer labels t.

With the one-hot tensor T[p,i] = 1 where t[p] = i and 0 elsewhere, e[p,q] = Σ_i T[p,i] w[i,q]:

    ∂e[p,q]/∂w[r,s] = Σ_i T[p,i] δ[i,r] δ[q,s] = T[p,r] δ[q,s]

A label that occurs twice reads its row twice, so that its gradient adds up.
"""

from gradcheck import Spec, delta, einsum, labels, real


def forward(xp, t, w):
    return xp.take(w, t, axis=0)


def torch_embedding(t, w):
    import torch

    return torch.nn.functional.embedding(t, w)


embedding = Spec(
    forward,
    inputs={"t": labels("m", below="n"), "w": real("n d")},
    output={"e": "m d"},
    jacobian={"w": einsum("pr,qs->pqrs", "t", delta)},
    native={"torch": torch_embedding},
    source="Bengio, Ducharme, Vincent and Jauvin, A Neural Probabilistic Language Model, "
    "Journal of Machine Learning Research 3 (2003)",
)
