"""What is wrong with a refuted claim, where, and what would mend it.

`diagnose` reads the terms of a spec or a chain; `diagnose_opaque` has only the values of a derivative.
"""

from __future__ import annotations

from gradcheck.diagnosis.cases import OpaqueCase
from gradcheck.diagnosis.opaque import diagnose_opaque
from gradcheck.diagnosis.spec import diagnose

__all__ = ["OpaqueCase", "diagnose", "diagnose_opaque"]
