"""Derivations as on paper: the chain rule in letters, and every step from it to the closed form.

`lines` holds what stands on a line, `rules` what leads from one to the next, `sections` a variable's
derivation, `model` the result and its proofs, and `text`, `latex` and `markdown` print it.
"""

from gradcheck.derivation.deriving import derive
from gradcheck.derivation.model import Derivation, Section, Step

__all__ = ["Derivation", "Section", "Step", "derive"]
