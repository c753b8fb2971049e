"""Second derivatives from claimed first ones, by the product rule.

`rules` differentiates an expression, with `slopes` for the power and function rules; `compiled` evaluates
`hessian` and `hvp`; `derivative` makes the first derivative an operation that `verify` can judge, and
`written` runs it on any namespace.
"""

from gradcheck.second_order.compiled import Hessian, Hvp, hvp
from gradcheck.second_order.derivative import Derivative, second_order

__all__ = ["Derivative", "Hessian", "Hvp", "hvp", "second_order"]
