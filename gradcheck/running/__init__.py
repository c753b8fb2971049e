"""Running error analysis: values and derivatives that carry a rigorous bound on their error."""

from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.dual import Dual, DualNamespace
from gradcheck.running.error import ErrorArray, ErrorNamespace
from gradcheck.running.formats import FORMATS, Format, format_of
from gradcheck.running.truth import Truth, bounds, derivative

__all__ = [
    "FORMATS",
    "BranchLog",
    "Decision",
    "Dual",
    "DualNamespace",
    "ErrorArray",
    "ErrorNamespace",
    "Format",
    "Truth",
    "bounds",
    "derivative",
    "format_of",
]
