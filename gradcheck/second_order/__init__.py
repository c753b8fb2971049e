"""Second derivatives from claimed first ones, by the product rule.

`rules` differentiates an expression, with `slopes` for the power and function rules; `products` makes the
steps of `hvp`; `compiled` evaluates `hessian` and `hvp`. `derivative` and `directional` make the gradient,
and its change along a tangent, operations that `verify` can judge (`verified` says what those keep), and
`written` runs them on any namespace.
"""

from gradcheck.second_order.compiled import Hessian, Hvp, hvp
from gradcheck.second_order.derivative import Derivative, second_order
from gradcheck.second_order.directional import Directional
from gradcheck.second_order.verified import SecondOrder, Simplified

__all__ = [
    "Derivative",
    "Directional",
    "Hessian",
    "Hvp",
    "SecondOrder",
    "Simplified",
    "hvp",
    "second_order",
]
