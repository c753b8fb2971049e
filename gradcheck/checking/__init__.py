"""From a claim to a verdict: plan the checks, search for examples, compare, conclude.

`plan` gives addressable checks, `run` runs one alone (in another process too), and `verify` does both
and gives the report.
"""

from gradcheck.checking.plan import Planned, plan
from gradcheck.checking.run import run
from gradcheck.checking.verifying import verify

__all__ = ["Planned", "plan", "run", "verify"]
