"""A derivation for a terminal."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import DOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.derivation.model import Derivation, Section


def as_text(derivation: Derivation) -> str:
    """Shapes, the links' derivatives, the chain rule, the steps, the closed forms and their proofs."""
    return "\n".join(_lines(derivation))


def _lines(d: Derivation) -> Iterator[str]:
    top = loss(d)
    yield f"{d.title}: " + ", ".join(f"∂{top}/∂{name}" for name in d.wrt)
    yield ""
    yield "Shapes"
    yield "  " + shapes(d)
    if note := leading(d):
        yield f"  {note}"
    if d.cotangent:
        letters = indexed(d.cotangent, d.letters[d.cotangent])
        seed = left(d, d.cotangent)
        yield f"  {top} is any scalar that depends on {d.cotangent}, and {seed} = ∂{top}/∂{letters}"
    yield ""
    yield "Local derivatives"
    yield from (f"  {line}" for line in _locals(d))
    for name, routes in chained(d):
        yield ""
        yield f"Chain rule for {name}"
        yield f"  {left(d, name)} = " + " + ".join(chain_rule(d, path) for path in routes)
    for section in d.sections:
        yield ""
        yield from _section(d, section)
    yield ""
    yield from _proofs(d)


def loss(d: Derivation) -> str:
    """What is differentiated: the scalar result, or some L that depends on it."""
    if not d.cotangent:
        return d.operation.result
    taken = d.operation.shapes
    return next(n for n in ("L", "loss", *(f"L_{i}" for i in range(len(taken)))) if n not in taken)


def indexed(name: str, letters: tuple[str, ...]) -> str:
    """`a[p,q]`."""
    return f"{name}[{','.join(letters)}]" if letters else name


def left(d: Derivation, name: str) -> str:
    """`∂L/∂z[r,s]`, or v for the cotangent itself."""
    if name == d.cotangent:
        return indexed(d.operation.seed or f"d({name})", d.letters[name])
    return f"∂{loss(d)}/∂{indexed(name, d.letters[name])}"


def shapes(d: Derivation) -> str:
    """The shape of every variable that occurs."""
    known = d.operation.shapes
    names = occurring(d)
    return ", ".join(f"{n} ({', '.join(known[n])})" if known[n] else f"{n} scalar" for n in names)


def occurring(d: Derivation) -> list[str]:
    """The variables of the derivation, with the parameters and residuals that it mentions."""
    mentioned = [n for x in d.locals for n in sorted(x.line.expression().names())]
    names = dict.fromkeys([*d.operation.inputs, *d.letters, *mentioned])
    return [n for n in names if n in d.operation.shapes]


def leading(d: Derivation) -> str:
    """What is shown of leading axes; empty where there are none."""
    if not any(DOTS in d.operation.shapes[n] for n in occurring(d)):
        return ""
    return (
        f"{DOTS} stands for leading axes: all of this is for one slice, and what has no such axes gets "
        "the sum over all slices"
    )


def chained(d: Derivation) -> list[tuple[str, list[list[str]]]]:
    """The paths to each variable, but for the one link that would be equal to itself."""
    return [
        (name, routes)
        for name, routes in d.paths.items()
        if routes and (d.cotangent or routes != [[d.operation.result, name]])
    ]


def _locals(d: Derivation) -> list[str]:
    rows = []
    for local in d.locals:
        result = indexed(local.result, local.letters[0])
        variable = indexed(local.variable, local.letters[1])
        rows.append((f"∂{result}/∂{variable} = {local.line.text()}", local.link))
    width = max((len(text) for text, _ in rows), default=0)
    return [f"{text.ljust(width)}    {link}" for text, link in rows]


def chain_rule(d: Derivation, path: list[str]) -> str:
    """`Σ_pqrs ∂L/∂a[p,q] ∂a[p,q]/∂z[r,s] ∂z[r,s]/∂w[t,u]`."""
    own = set(d.letters[path[-1]])
    summed = [s for name in path[:-1] for s in d.letters[name] if s not in own]
    parts = [left(d, path[0])] if d.cotangent else []
    parts += [f"∂{indexed(a, d.letters[a])}/∂{indexed(b, d.letters[b])}" for a, b in pairwise(path)]
    head = f"Σ_{''.join(summed)} " if summed else ""
    return head + " ".join(parts)


def _section(d: Derivation, section: Section) -> Iterator[str]:
    name = section.variable
    yield f"Gradient in {name}"
    start = f"  {left(d, name)} "
    if not section.steps:
        yield f"{start}= {section.line.text()}"
    else:
        rule = " + ".join(_one_link(d, result, name) for result, _ in section.consumers)
        rows = [(f"= {rule}", "chain rule")]
        rows += [(f"= {s.line.text()}", said(s.reason, ok=s.proof.ok)) for s in section.steps]
        rows[1] = (
            (rows[1][0], said("substituted", ok=section.steps[0].proof.ok))
            if section.steps[0].rule == "substitute"
            else rows[1]
        )
        width = min(max(len(text) for text, _ in rows), 76)
        for i, (text, reason) in enumerate(rows):
            yield f"{start if not i else ' ' * len(start)}{text.ljust(width)}    {reason}"
    if section.conditions:
        yield f"  wherever {', '.join(section.conditions)}"
    yield ""
    yield f"  {matrix(d, section)}"


def said(reason: str, *, ok: bool) -> str:
    """A reason, with a warning where the step is not proved."""
    return reason if ok else f"{reason} (NOT PROVED)"


def matrix(d: Derivation, section: Section) -> str:
    """The vectorised form with its shape, or why there is none."""
    name = section.variable
    if section.no_matrix:
        return f"No matrix form: {section.no_matrix}"
    shape = d.operation.shapes.get(name, ())
    shown = f"    shape ({', '.join(shape)})" if shape else ""
    return f"Vectorised: ∂{loss(d)}/∂{name} = {section.matrix}{shown}"


def _one_link(d: Derivation, result: str, variable: str) -> str:
    inner = f"∂{indexed(result, d.letters[result])}/∂{indexed(variable, d.letters[variable])}"
    if result == d.operation.result and not d.cotangent:
        return inner
    own = set(d.letters[variable])
    summed = [s for s in d.letters[result] if s not in own]
    head = f"Σ_{''.join(summed)} " if summed else ""
    return f"{head}{left(d, result)} {inner}"


def _proofs(d: Derivation) -> Iterator[str]:
    failed = [s for s in d.steps if not s.proof.ok]
    yield "Proof"
    if failed:
        yield f"  {len(failed)} of {len(d.steps)} steps are not proved"
        yield from (f"    {s.reason}: {s.proof.words}" for s in failed)
    elif d.steps:
        yield f"  each of the {len(d.steps)} steps is proved equal to the one before, at every size"
    for name, proof in d.proofs.items():
        what = f"∂{loss(d)}/∂{name}"
        if proof.ok:
            yield f"  {what} is the derivative of the forward: proved {proof.words}"
        else:
            yield f"  {what} is NOT PROVED to be the derivative of the forward: {proof.words}"
