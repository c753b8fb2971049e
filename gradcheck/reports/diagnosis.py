"""A diagnosis in words: what is wrong, where, what would mend it, and what the claim answers instead."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from gradcheck.reports import numbers
from gradcheck.reports.model import short
from gradcheck.reports.naming import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.reports.model import Check

# The keys that `diagnosis_lines` puts into sentences; any others are printed as they are.
_TOLD = frozenset({
    "link", "patterns", "kind", "message", "term", "location", "edit", "derived", "answers", "factor",
    "gaps", "seconds",
})  # fmt: skip


def diagnosis_lines(check: Check) -> list[str]:
    """What a report says of a refuted claim before it shows the counterexample."""
    found = check.diagnosis
    if not found:
        return []
    return [*_lines(found, check), *(f"{k}: {v}" for k, v in found.items() if k not in _TOLD)]


def _lines(found: Mapping[str, Any], check: Check) -> Iterator[str]:
    if found.get("message"):
        yield _headline(found, check)
    if found.get("edit"):
        yield from _edit(found["edit"], check)
    if found.get("answers"):
        yield f"It would be right for another question: it is {found['answers']}."
    if found.get("derived"):
        use = "to paste" if check.kind in ("spec", "chain") else "as a spec has it"
        yield f"The derivative that follows from the forward, {use}:"
        yield from (f"  {line}" for line in str(found["derived"]).splitlines())


def _headline(found: Mapping[str, Any], check: Check) -> str:
    """As in "Link softmax: wrong letter in term 2 (specs/softmax.py:44)."."""
    text, link, place = str(found["message"]), found.get("link"), found.get("location")
    if link == "closed form":
        text = f"The closed form: {text}"
    elif link == "composition":
        text = f"The composition: {text}"
    elif link and link != check.claim:
        text = f"Link {link}: {text}"
    else:
        text = text[:1].upper() + text[1:]
    return f"{text} ({place})." if place else f"{text}."


def patterns_told(check: Check) -> str:
    """Where the claim (of the link at fault) is wrong and where right, with one entry each."""
    found = check.diagnosis or {}
    patterns, link = found.get("patterns", []), found.get("link")
    if {str(item["pattern"]) for item in patterns} == {"every entry"}:
        return ""  # no two letters share an axis: there is no pattern to tell
    parts = [
        f"{word} where {'; '.join(names)}"
        for word, wrong in (("wrong", True), ("right", False))
        if (names := [_pattern(item) for item in patterns if bool(item["wrong"]) is wrong])
    ]
    own = link in (None, "closed form", "composition", check.claim)
    where = _lettered(found) if check.kind not in ("spec", "chain") else "" if own else link
    return (f"in {where}: " if where and parts else "") + "; ".join(parts)


def _lettered(found: Mapping[str, Any]) -> str:
    """`∂out[p,q]/∂z[r,s]`: what the letters of the patterns stand for, where nobody wrote them."""
    letters, patterns = (found.get("gaps") or {}).get("letters"), found.get("patterns")
    if not letters or not patterns or not patterns[0].get("entry"):
        return ""
    sides = [part.partition("[")[0] for part in str(patterns[0]["entry"]).split("/")]
    named = zip(sides, letters, strict=True)
    return "/".join(f"{side}[{','.join(own)}]" if own else side for side, own in named)


def _pattern(item: Mapping[str, Any]) -> str:
    """`p = r, q ≠ s (∂a[0,1]/∂z[0,2]: −0.26, true −0.011)`."""
    if not item.get("entry"):
        return str(item["pattern"])
    claim, true = numbers.pair(float(item["claim"]), float(item["oracle"]))
    if item["wrong"]:
        return f"{item['pattern']} ({item['entry']}: {claim}, true {true})"
    return f"{item['pattern']} ({item['entry']}: {numbers.number(float(item['oracle']))})"


def _edit(edit: Mapping[str, Any], check: Check) -> Iterator[str]:
    """The change as a diff of the spec's line, and how far it is established."""
    before, after = str(edit["before"]).splitlines(), str(edit["after"]).splitlines()
    for old, new in zip_longest(before, after, fillvalue=""):
        yield f"{old or 'nothing'} → {new or 'nothing'}"
    if edit["proved"]:
        target = shell_word(short(check.address))  # what lives only in memory has none
        command = f"; `gradcheck verify {target} --fix` writes it" if target else ""
        yield f"With this edit it is proved{command}."
    else:
        yield "With this edit it agrees wherever it was tried, which is not a proof."
