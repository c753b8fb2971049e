"""The report and its renderings: what was checked, what came of it, and how a person reads it."""

from __future__ import annotations

from gradcheck.reports.model import Check, Counterexample, Report, Verdict

__all__ = ["Check", "Counterexample", "Report", "Verdict"]
