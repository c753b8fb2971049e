"""Running error analysis: values and derivatives that carry a rigorous bound on their error."""

from gradcheck.running.balls import ErrorArray
from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.dual import Dual, DualNamespace
from gradcheck.running.error import ErrorNamespace
from gradcheck.running.formats import FORMATS, Format, format_of, rescaled
from gradcheck.running.operations import ErrorOperations, rounded_input
from gradcheck.running.shorter import shorter_format
from gradcheck.running.truth import Truth, bounds, derivative

__all__ = [
    "FORMATS",
    "BranchLog",
    "Decision",
    "Dual",
    "DualNamespace",
    "ErrorArray",
    "ErrorNamespace",
    "ErrorOperations",
    "Format",
    "Truth",
    "bounds",
    "derivative",
    "format_of",
    "rescaled",
    "rounded_input",
    "shorter_format",
]
