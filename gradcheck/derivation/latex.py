"""A derivation as a LaTeX document, and as Markdown with formulas."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import DOTS, is_broadcast
from gradcheck.algebra.text import latex_groups, latex_name
from gradcheck.derivation.text import chained, leading, loss, occurring, said

if TYPE_CHECKING:
    from gradcheck.derivation.lines import Line
    from gradcheck.derivation.model import Derivation, Section

_HEAD = r"""\documentclass[10pt]{article}
\usepackage[a4paper,landscape,margin=1.8cm]{geometry}
\usepackage{amsmath,amssymb}
\allowdisplaybreaks
\setlength{\parindent}{0pt}
\begin{document}
"""
# About as much as fits beside a reason on the page, in characters that are printed.
WIDTH = 96
_SCALAR = r"\text{scalar}"


def document(d: Derivation) -> str:
    """A document that pdflatex compiles as it is."""
    return f"{_HEAD}\n{body(d)}\n\n\\end{{document}}\n"


def body(d: Derivation) -> str:
    """The document without its preamble."""
    return portable(_body(d))


def _body(d: Derivation) -> str:
    parts = [rf"\section*{{{escaped(d.title)}}}", escaped(_shapes(d))]
    parts += [r"\subsection*{Local derivatives}", _align(_locals(d))]
    if rules := _chain_rules(d):
        parts += [r"\subsection*{Chain rule}", _align(rules)]
    for section in d.sections:
        parts += [
            rf"\subsection*{{Gradient in ${latex_name(section.variable)}$}}",
            _align(_rows(d, section)),
            *(rf"\medskip {p}" for p in _ending(d, section)),
        ]
    parts += [r"\subsection*{Proof}", *(f"{escaped(p)}\n" for p in _proofs(d))]
    return "\n\n".join(parts)


def markdown(d: Derivation) -> str:
    """Headings, and formulas between dollars, as Jupyter and MathJax take them."""
    parts = [f"### {d.title}", _prose(_shapes(d))]
    parts += ["#### Local derivatives", _aligned(_locals(d))]
    if rules := _chain_rules(d):
        parts += ["#### Chain rule", _aligned(rules)]
    for section in d.sections:
        parts += [f"#### Gradient in ${latex_name(section.variable)}$"]
        parts += [_aligned(_rows(d, section)), *(_prose(p) for p in _ending(d, section))]
    parts += ["#### Proof", *(_prose(escaped(p)) for p in _proofs(d))]
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> str:
    return text.replace(r"\_", "_").replace(r"\&", "&").replace(r"\%", "%")


def _align(rows: list[tuple[str, str]]) -> str:
    return "\\begin{align*}\n" + _lines(rows) + "\n\\end{align*}"


def _aligned(rows: list[tuple[str, str]]) -> str:
    return f"$$\n\\begin{{aligned}}\n{_lines(rows)}\n\\end{{aligned}}\n$$"


def _lines(rows: list[tuple[str, str]]) -> str:
    shown = [rf"{f} && \text{{{escaped(reason)}}}" if reason else f for f, reason in rows]
    return " \\\\\n".join(shown)


def _index(name: str, letters: tuple[str, ...]) -> str:
    inner = "".join(s if len(s) == 1 else f"{{{s[0]}_{{{s[1:]}}}}}" for s in letters)
    shown = name if name.startswith("\\") else latex_name(name)
    return f"{shown}_{{{inner}}}" if letters else shown


def seed(d: Derivation) -> str:
    """The cotangent's name in LaTeX."""
    return d.operation.seed or rf"\bar{{{latex_name(d.cotangent)}}}"


def _over(above: str, below: str) -> str:
    return rf"\frac{{\partial {above}}}{{\partial {below}}}"


def _left(d: Derivation, name: str) -> str:
    if name == d.cotangent:
        return _index(seed(d), d.letters[name])
    return _over(latex_name(loss(d)), _index(name, d.letters[name]))


def _between(d: Derivation, result: str, variable: str) -> str:
    return _over(_index(result, d.letters[result]), _index(variable, d.letters[variable]))


def _sigma(letters: list[str]) -> str:
    return _index(r"\sum", tuple(letters)) + " " if letters else ""


def _shapes(d: Derivation) -> str:
    shown = []
    for name in occurring(d):
        shape = d.operation.shapes[name]
        axes = r" \times ".join(map(_axis, shape))
        shown.append(f"${latex_name(name)}: {axes or _SCALAR}$")
    text = "Shapes: " + ", ".join(shown) + "."
    if d.cotangent:
        bar = _index(seed(d), d.letters[d.cotangent])
        result = _index(d.cotangent, d.letters[d.cotangent])
        top = latex_name(loss(d))
        text += f" ${top}$ is any scalar that depends on ${latex_name(d.cotangent)}$, and "
        text += f"${bar} = {_over(top, result)}$."
    note = leading(d)
    return f"{text} {note}." if note else text


def _axis(axis: str) -> str:
    """An axis as LaTeX, where # would be a parameter of a macro."""
    if axis == DOTS:
        return r"\cdots"
    return rf"\#{latex_name(axis[1:])}" if is_broadcast(axis) else latex_name(axis)


def _locals(d: Derivation) -> list[tuple[str, str]]:
    return [(f"{_between(d, x.result, x.variable)} &= {x.line.latex()}", x.link) for x in d.locals]


def _chain_rules(d: Derivation) -> list[tuple[str, str]]:
    rows = []
    for name, routes in chained(d):
        for i, path in enumerate(routes):
            own = set(d.letters[name])
            summed = [s for v in path[:-1] for s in d.letters[v] if s not in own]
            parts = [_left(d, path[0])] if d.cotangent else []
            parts += [_between(d, a, b) for a, b in pairwise(path)]
            head = f"{_left(d, name)} &= " if not i else r"&\quad + "
            rows.append((head + _sigma(summed) + " ".join(parts), ""))
    return rows


def _rows(d: Derivation, section: Section) -> list[tuple[str, str]]:
    name = section.variable
    start = f"{_left(d, name)} &= "
    if not section.steps:
        return [(start + section.line.latex(), "")]
    rules = []
    for result, letters in section.consumers:
        own = set(d.letters[name])
        summed = [s for s in letters if s not in own]
        outer = "" if result == d.operation.result and not d.cotangent else _left(d, result)
        rules.append(_sigma(summed if outer else []) + f"{outer} {_between(d, result, name)}")
    rows = [(start + " + ".join(rules), "chain rule")]
    for step in section.steps:
        reason = "substituted" if step.rule == "substitute" else step.reason
        broken = _broken(step.line)
        rows.append((f"&= {broken[0]}", said(reason, ok=step.proof.ok)))
        rows += [(rf"&\quad {piece}", "") for piece in broken[1:]]
    return rows


def _broken(line: Line) -> list[str]:
    """A line in pieces that fit the page, broken between its groups."""
    pieces: list[str] = []
    for group in line.groups:
        text = latex_groups((group,), line.output, line.seed)
        bare = len(line.groups) > 1 and text.startswith(("-", "+"))
        signed = text if bare or not pieces else f"+ {text}"
        if pieces and _printed(pieces[-1]) + _printed(signed) <= WIDTH:
            pieces[-1] += f" {signed}"
        else:
            pieces.append(signed)
    return pieces if len(pieces) > 1 else [line.latex()]


def _printed(text: str) -> int:
    """About how many characters a formula prints."""
    return len(re.sub(r"\\(?:left|right|mathrm|operatorname|frac)|[{}_^ ]", "", text))


def _ending(d: Derivation, section: Section) -> list[str]:
    parts = []
    if section.conditions:
        parts.append(escaped(f"wherever {', '.join(section.conditions)}."))
    if section.no_matrix:
        return [*parts, escaped(f"No matrix form: {section.no_matrix}.")]
    name = section.variable
    bold = rf"\mathbf{{{name.replace('_', chr(92) + '_')}}}"
    left = _over(latex_name(loss(d)), bold)
    return [*parts, rf"Vectorised: $\displaystyle {left} = {section.matrix_latex}$"]


def _proofs(d: Derivation) -> list[str]:
    failed = [s for s in d.steps if not s.proof.ok]
    parts = []
    if failed:
        parts.append(f"{len(failed)} of {len(d.steps)} steps are not proved.")
    elif d.steps:
        parts.append(f"Each of the {len(d.steps)} steps is proved equal to the one before.")
    for name, proof in d.proofs.items():
        verdict = "proved" if proof.ok else "NOT PROVED"
        left = rf"\partial {latex_name(loss(d))}/\partial {latex_name(name)}"
        parts.append(f"${left}$ is the derivative of the forward: {verdict}, {proof.words}.")
    return parts


_SIGNS = {
    "∂": r"$\partial$", "≠": r"$\neq$", "≥": r"$\geq$", "≤": r"$\leq$", "−": "$-$", "Σ": r"$\Sigma$",
    "δ": r"$\delta$", "→": r"$\to$", "·": r"$\cdot$", "×": r"$\times$", "∈": r"$\in$", "√": r"$\surd$",
    "ε": r"$\varepsilon$", "…": r"\dots{}",
}  # fmt: skip
_SUM = re.compile(r"Σ_(\w+)")
_COMPARED = re.compile(r"\b([^\W\d]\w*) ([≠≥≤]) (\d+(?:\.\d+)?)\b")
_RELATIONS = {"≠": r"\neq", "≥": r"\geq", "≤": r"\leq"}
_INDEXED = re.compile(r"(δ|\w+)\[([\w,]*)\]")


def escaped(text: str) -> str:
    """Words with a few signs and indexed names in them, as LaTeX; formulas between dollars stay."""
    pieces = text.split("$")
    return "$".join(p if i % 2 else _words(p) for i, p in enumerate(pieces))


def _words(text: str) -> str:
    kept: list[str] = []

    def keep(formula: str) -> str:
        kept.append(formula)
        return f"\0{len(kept) - 1}\0"

    def index(match: re.Match[str]) -> str:
        name = r"\delta" if match[1] == "δ" else latex_name(match[1])
        return keep(f"${name}_{{{match[2].replace(',', '')}}}$")

    text = _SUM.sub(lambda m: keep(rf"$\Sigma_{{{m[1]}}}$"), text)
    text = _COMPARED.sub(lambda m: keep(f"${latex_name(m[1])} {_RELATIONS[m[2]]} {m[3]}$"), text)
    text = _INDEXED.sub(index, text)
    for sign in "\\&%#_{}":
        text = text.replace(sign, r"\textbackslash{}" if sign == "\\" else f"\\{sign}")
    text = text.replace("^", r"\^{}").replace(">>", r"$\gg$")
    for sign, shown in _SIGNS.items():
        text = text.replace(sign, shown)
    return re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text)


# Capitals that look like Latin ones have no command of their own.
_LATIN = {
    "alpha": "A", "beta": "B", "epsilon": "E", "zeta": "Z", "eta": "H", "iota": "I", "kappa": "K",
    "mu": "M", "nu": "N", "omicron": "O", "rho": "P", "tau": "T", "chi": "X",
}  # fmt: skip
_LETTER = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)")


def portable(text: str) -> str:
    """LaTeX in ASCII, which pdflatex takes without packages: θ is a command, é its base letter."""
    return "".join(c if c.isascii() else _ascii(c) for c in text)


def _ascii(sign: str) -> str:
    found = _LETTER.fullmatch(unicodedata.name(sign, ""))
    if found is None:
        plain = unicodedata.normalize("NFKD", sign)
        if plain == sign:
            return "" if unicodedata.combining(sign) else "?"
        return portable(plain)
    name = found[2].lower().replace("lamda", "lambda")
    if name == "omicron" or (found[1] == "CAPITAL" and name in _LATIN):
        return "o" if found[1] == "SMALL" else _LATIN[name]
    return rf"\ensuremath{{\{name if found[1] == 'SMALL' else name.capitalize()}}}"
