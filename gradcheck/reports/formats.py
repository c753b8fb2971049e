"""The formats of a report by name, which of them a file's suffix means, and writing one to a file."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.reports.cleaning import utf8

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.reports.model import Report


def _text(report: Report) -> str:
    return str(report)


def _json(report: Report) -> str:
    return report.to_json()


def _junit(report: Report) -> str:
    from gradcheck.reports.junit import junit

    return junit(report)


def _sarif(report: Report) -> str:
    from gradcheck.reports.sarif import sarif

    return sarif(report)


def _github(report: Report) -> str:
    from gradcheck.reports.github import github

    return github(report)


def _markdown(report: Report) -> str:
    from gradcheck.reports.markdown import markdown

    return markdown(report)


def _html(report: Report) -> str:
    from gradcheck.reports.html import html

    return html(report)


# The only list of formats; each gives the whole report as text.
FORMATS: dict[str, Callable[[Report], str]] = {
    "text": _text,
    "json": _json,
    "junit": _junit,
    "sarif": _sarif,
    "github": _github,
    "markdown": _markdown,
    "html": _html,
}
SUFFIXES = {
    ".txt": "text",
    ".sarif.json": "sarif",
    ".json": "json",
    ".xml": "junit",
    ".sarif": "sarif",
    ".md": "markdown",
    ".html": "html",
}


def format_of(path: Path) -> str:
    """The format that the suffix of a file means; text where it has none.

    Raises:
        UsageError: For a suffix that means no format.
    """
    name = path.name.lower()
    form = next((form for suffix, form in SUFFIXES.items() if name.endswith(suffix)), None)
    if form is None and path.suffix:
        raise UsageError(
            f"{path}: {path.suffix} means no format of a report; there are {', '.join(SUFFIXES)}"
        )
    return form or "text"


def check_path(path: Path, form: str | None = None) -> None:
    """Whether a report can be written there, to be asked before a long run.

    Args:
        path: The file.
        form: The format, where it is not the suffix that says it.

    Raises:
        UsageError: For a suffix that means no format, where it should say one.
        UsageError: Where the format needs an extra that is not installed.
        UsageError: Where the folder does not exist or may not be written in, or it is a folder itself.
    """
    check_form(format_of(path) if form is None else form)
    if not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be written: there is no folder {path.parent}; make it, or name another"
        )
    if path.is_dir():
        raise UsageError(f"{path} cannot be written: it is a folder; name a file in it")
    # A file is replaced whole, for which its folder counts; what is no file is written into.
    device = path.exists() and not path.is_file()
    if not os.access(path if device else path.resolve().parent, os.W_OK):
        place = "it" if device else f"the folder {path.parent}"
        raise UsageError(f"{path} cannot be written: {place} is read-only for you; name another")


def check_form(form: str | None) -> None:
    """Whether what a format needs is installed, to be asked before a long run.

    Raises:
        UsageError: Naming the extra.
    """
    if form == "html" and find_spec("jinja2") is None:
        raise UsageError('the HTML report needs jinja2: pip install "gradcheck[html]"')


def write(report: Report, path: Path, form: str | None = None) -> None:
    """Write the report whole or not at all: readers never see half of it.

    Args:
        report: The report.
        path: The file; an older one is replaced.
        form: A name of `FORMATS`; by default what the suffix means.

    Raises:
        UsageError: Where the file cannot be written; an older one is left as it was.
    """
    check_path(path, form)
    text = FORMATS[form or format_of(path)](report) + "\n"
    try:
        replace_file(path, utf8(text).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def replace_file(path: Path, data: bytes) -> None:
    """Put a whole file in the place of an older one, also where two processes write at once.

    Raises:
        OSError: Where it cannot be written; an older file is then as it was.
    """
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing there to be replaced
        path.write_bytes(data)
        return
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        os.chmod(name, mode)  # noqa: PTH101  mkstemp lets nobody else read
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's mask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
