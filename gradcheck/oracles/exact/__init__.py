"""The `exact` oracle: the program itself on dual numbers over four random prime fields.

An independent code path: nothing of the algebra that rewrites expressions is used. Its theorem: if
the claim equals the dual-number Jacobian in the field of rational functions in the inputs and one
indeterminate for each opaque function value, it is the Jacobian wherever both are defined; and a
difference of bounded degree is seen at random residues with a probability that is computed and printed.
"""

from gradcheck.oracles.exact.evaluation import Settings
from gradcheck.oracles.exact.primes import STANDARD, Pool
from gradcheck.oracles.exact.verdict import exact

__all__ = ["STANDARD", "Pool", "Settings", "exact"]
