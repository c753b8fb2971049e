"""Why equality at every size was not decided."""

from __future__ import annotations


class Undecided(Exception):
    """The symbolic oracle cannot decide; its text says why and what to write instead."""


class DividesByZero(Undecided):
    """A denominator is 0 everywhere, or wherever a selector is."""
