"""Letters and terms, without arrays: what a hand-derived Jacobian is, as mathematics.

`terms` holds the data, `notation` the way users write it, `binding` gives each letter its axis,
`normal` rewrites a term without changing its value, `compose` is the chain rule on letters, and
`text` prints. Nothing here knows an array, a size as a number, or a framework.
"""

from gradcheck.algebra.compose import compose, identity, jvp_of, lift, relabel, vjp_of
from gradcheck.algebra.notation import delta, einsum, ones, size
from gradcheck.algebra.terms import Expression, Factor, Size, Term

__all__ = [
    "Expression",
    "Factor",
    "Size",
    "Term",
    "compose",
    "delta",
    "einsum",
    "identity",
    "jvp_of",
    "lift",
    "ones",
    "relabel",
    "size",
    "vjp_of",
]
