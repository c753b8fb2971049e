"""The symbolic oracle: equality for every shape, by one run of the forward on symbolic sizes.

`symbolic` decides a claim, `equal` two expressions over an operation's operands (`equal_pairs` several);
`derived` writes the true derivative in them, and `residual` what a claim lacks. Hypotheses that are
checked before anything is called proved: one run without a look at a size or an entry, one axis a letter
and declared shapes, canonical and random equality agree, atoms are known by definition, relations only of
declared domains, no inverse of a selector, each value of a choice tried.
"""

from gradcheck.oracles.symbolic.deciding import equal, equal_pairs, symbolic
from gradcheck.oracles.symbolic.rendering import derived, residual

__all__ = ["derived", "equal", "equal_pairs", "residual", "symbolic"]
