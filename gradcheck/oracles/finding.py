"""What an oracle that works without examples has found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """The answer of an exact oracle about one claim.

    Attributes:
        verdict: "proved", "identity", "suspect" (not equal; nothing is refuted before a real point
            certifies it) or "undecided".
        statement: What was established, in words ("for all m ≥ 1, n ≥ 1, wherever a ≠ 0").
        reason: Why nothing was decided, naming the line and what to write instead.
        residual: True − claimed derivative, in the claim's own letters, where it is known.
        bound: On the probability that a wrong claim was accepted.
        sizes: The sizes at which something was computed.
    """

    verdict: str
    statement: str = ""
    reason: str = ""
    residual: str = ""
    bound: float | None = None
    sizes: tuple[dict[str, int], ...] = field(default=())
