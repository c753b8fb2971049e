"""Make the notebooks of the examples from their scripts, executed; or check those that are there.

    python examples/build_notebooks.py                      write examples/notebooks/*.ipynb
    python examples/build_notebooks.py --check              exit 1 where one is not what would be written
    python examples/build_notebooks.py --check keras_parity

A script is cut at its markers. `# %%` begins a cell of code and `# %% [markdown]` one of text, in
comments; `# %% [script]` begins what only the script has, such as its command line, and
`# %% [notebook]` what only the notebook has: code in comments. The docstring is the first cell. A
script without markers becomes one cell for each group of definitions, and then `main([])`.

The check compares the cells exactly, executes them in a new process, and compares what they print:
times are left out, and so are rounding errors below 1e-10, which differ between processors. Of
pictures it is compared whether there is one. The tables list every oracle that is installed, so
build and check with all of them:

    pip install -e ".[all,notebooks]"
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from difflib import unified_diff
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = Path(__file__).resolve().parent
FOLDER = EXAMPLES / "notebooks"
NAMES = ("iris_jacobians", "multiclass_torch", "keras_parity", "sigmoid_softmax_iris")

LARGEST_OUTPUT = 60_000  # characters; a picture is counted in base 64
TIMEOUT = 300  # seconds a cell

_MARKER = re.compile(r"^# %%(?: \[(markdown|script|notebook)\])?[ \t]*$", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_VARYING = (
    (re.compile(r"\s+[\d.e+−–-]+\s+<?\d+(\.\d+)? (ms|s|min)$", re.MULTILINE), " <measured>"),
    (re.compile(r"<?\b\d+(\.\d+)? (ms|s|min)\b"), "<time>"),
    (re.compile(r"\d(\.\d+)?e[-−](1\d|[2-9]\d)\b"), "<rounding>"),
    (re.compile(r"\b0\.00e\+00\b|\b0\.0e\+00\b"), "<rounding>"),
    (re.compile(r"\S*ipykernel_\d+\S*\.py"), "<cell>"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"[ \t]+"), " "),
)
# Reports are wrapped to the width of their table, which depends on the times in it.
_SPACE = re.compile(r"\s+")


class Cell(NamedTuple):
    """One cell of a notebook."""

    kind: str  # "code" or "markdown"
    source: str


# ---------------------------------------------------------------- from a script to cells


def cells_of(text: str) -> list[Cell]:
    """The cells that a script stands for."""
    tree = ast.parse(text)
    title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    body = "\n".join(text.split("\n")[tree.body[0].end_lineno :])
    first = Cell("markdown", f"# {title}\n{rest}".strip())
    cells = _by_markers(body) if _MARKER.search(body) else _by_definitions(body)
    return [first, *(cell for cell in cells if cell.source)]


def _by_markers(body: str) -> Iterator[Cell]:
    before, *parts = _MARKER.split(body)
    yield Cell("code", before.strip())
    for kind, source in zip(parts[::2], parts[1::2], strict=True):
        if kind == "script":
            continue
        text = source.strip()
        kept = text if kind is None else _uncommented(text)
        yield Cell("markdown" if kind == "markdown" else "code", kept)


def _uncommented(source: str) -> str:
    lines = source.split("\n")
    if wrong := [line for line in lines if not re.match(r"#( |$)", line)]:
        message = f"a cell in comments has a line that is none: {wrong[0]!r}"
        raise ValueError(message)
    return "\n".join(line[2:] for line in lines)


def _by_definitions(body: str) -> Iterator[Cell]:
    """A cell for each public definition, with what stands before it; the command line as a call."""
    lines, begin = body.split("\n"), 0
    for node in ast.parse(body).body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            yield Cell("code", "\n".join(lines[begin : node.lineno - 1]).strip())
            yield Cell("code", "main([])")
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield Cell("code", "\n".join(lines[begin : node.end_lineno]).strip())
            begin = node.end_lineno or begin
    yield Cell("code", "\n".join(lines[begin:]).strip())


# ---------------------------------------------------------------- from cells to a notebook


def notebook_of(name: str) -> Any:
    """The notebook of a script, not yet executed."""
    import nbformat

    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    notebook = nbformat.v4.new_notebook()
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for i, cell in enumerate(cells_of(text)):
        # Ids by place, so that building twice gives the same file.
        notebook.cells.append(make[cell.kind](cell.source, id=f"cell-{i}"))
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    return notebook


def executed(name: str) -> Any:
    """The notebook of a script with its outputs, run from top to bottom in a new process."""
    from nbclient import NotebookClient

    notebook = notebook_of(name)
    # TensorFlow tells the standard error which processor it runs on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # An empty folder: a notebook needs nothing beside it, and leaves nothing here.
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_light(output, name) for output in _merged(cell.outputs)]
    notebook.metadata.pop("language_info", None)
    return notebook


def _merged(outputs: list[Any]) -> list[Any]:
    """Pieces of one stream as one output."""
    found: list[Any] = []
    for output in outputs:
        if found and "name" in output and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def _light(output: Any, name: str) -> Any:
    """Text without colours or a small picture; HTML that repeats a text is left out."""
    if output.get("name") == "stderr":
        message = f"{name} writes to the standard error: {output.text.strip()}"
        raise ValueError(message)
    if "data" in output and "text/plain" in output.data:
        output.data.pop("text/html", None)
        output.data["text/plain"] = _COLOUR.sub("", output.data["text/plain"])
    length = len(str(output.get("text", output.get("data", ""))))
    if length > LARGEST_OUTPUT:
        message = f"{name}: an output of {length:,} characters; the limit is {LARGEST_OUTPUT:,}"
        raise ValueError(message)
    return output


# ---------------------------------------------------------------- the check


def steady(text: str) -> str:
    """A printed text without what differs from run to run."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text.strip()


def _printed(cell: Any) -> list[str]:
    """What a cell shows: its texts, and for each picture the word for it."""
    shown = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        picture = next((kind for kind in data if kind.startswith("image/")), None)
        text = str(output.get("text", data.get("text/plain", "")))
        shown.append(picture or steady(text))
    return shown


def changed(old: Any, new: Any) -> list[str]:
    """The lines in which two outputs of a cell differ; none where only their wrapping does."""
    before, after = _printed(old), _printed(new)
    if [_SPACE.sub(" ", text) for text in before] == [_SPACE.sub(" ", text) for text in after]:
        return []
    lines = ["\n".join(texts).split("\n") for texts in (before, after)]
    return [
        line for line in unified_diff(*lines, n=0, lineterm="") if line[:3] not in ("---", "+++")
    ]


def differences(name: str) -> list[str]:
    """How the committed notebook differs from its script, and from a new execution."""
    import nbformat

    path = FOLDER / f"{name}.ipynb"
    if not path.is_file():
        return [f"{path.name} is not there"]
    there = nbformat.read(path, as_version=4)
    pairs = list(zip_longest(there.cells, notebook_of(name).cells))
    wrong = [i for i, (old, new) in enumerate(pairs) if not _same(old, new)]
    if wrong:
        return [f"cell {i} is not the script's" for i in wrong]
    found: list[str] = []
    for i, (old, new) in enumerate(zip(there.cells, executed(name).cells, strict=True)):
        if lines := changed(old, new):
            found += [f"cell {i} does not show this (-) any more, but this (+):", *lines]
    return found


def _same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return False
    return (first.cell_type, first.source) == (second.cell_type, second.source)


def build(name: str) -> None:
    """Write the executed notebook of a script."""
    import nbformat

    nbformat.write(executed(name), FOLDER / f"{name}.ipynb")
    print(f"wrote notebooks/{name}.ipynb")


def check(name: str) -> bool:
    """Whether a notebook is what its script would give, and print where it is not."""
    found = differences(name)
    print(f"notebooks/{name}.ipynb: {'changed' if found else 'as its script'}", *found, sep="\n  ")
    return not found


def main(arguments: Sequence[str] | None = None) -> int:
    """Build or check; exit 1 where a check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args(arguments)
    if unknown := [n for n in options.names if n not in NAMES]:
        parser.error(f"no example {unknown[0]!r}; there are {', '.join(NAMES)}")
    if find_spec("nbformat") is None or find_spec("nbclient") is None:
        parser.error('notebooks need nbformat and nbclient: pip install -e ".[all,notebooks]"')
    FOLDER.mkdir(exist_ok=True)
    names = options.names or NAMES
    if options.check:
        checked = [check(name) for name in names]  # all of them, whatever the first one says
        return 0 if all(checked) else 1
    for name in names:
        build(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
