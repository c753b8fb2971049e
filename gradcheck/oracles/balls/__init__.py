"""Certified refutation in ball arithmetic: what turns a suspicion into `refuted`."""

from __future__ import annotations

from gradcheck.oracles.balls.certify import (
    DIFFERS,
    PRECISIONS,
    UNDEFINED,
    Certificate,
    Outcome,
    certify,
    examine,
    search_certificate,
    truth,
    witness,
    work,
)
from gradcheck.oracles.balls.namespace import BallArray, BallNamespace

__all__ = [
    "DIFFERS",
    "PRECISIONS",
    "UNDEFINED",
    "BallArray",
    "BallNamespace",
    "Certificate",
    "Outcome",
    "certify",
    "examine",
    "search_certificate",
    "truth",
    "witness",
    "work",
]
