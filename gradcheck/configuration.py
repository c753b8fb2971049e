"""`[tool.gradcheck]` in pyproject.toml: the same keys for the command line and the pytest plugin.

Nothing heavy is imported here: the plugin reads this before it knows whether there is anything to do.
"""

from __future__ import annotations

import glob
import math
import os
import tomllib
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.reports.gaps import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# What a claim may be required to be; each includes those before it.
VERDICTS = ("proved", "identity", "agrees")
_GAP_KEYS = ("claim", "input", "oracle", "reason", "until")
_SHOWN = 40  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Configuration:
    """What `[tool.gradcheck]` says; None (or empty, for what is required) where it says nothing.

    Attributes:
        path: The file, to whose folder `specs` and `report` are relative.
        specs: Patterns of spec files.
        oracles: As `--oracle`.
        devices: As `--device`.
        dtypes: As `--dtype`.
        profile: As `--profile`.
        seed: As `--seed`.
        jobs: As `-j`.
        require: Oracles that must support every claim.
        require_devices: Devices on which every claim must be verified.
        require_verdict: By a pattern of names or files of specs, what must be reached at least.
        gaps: What is known not to be verified.
        time_limit: As `--time-limit`.
        cache: Whether results are kept (`--no-cache` if not), or the folder in which.
        report: Files to which the report is written, each in the format of its suffix.
    """

    path: Path | None = None
    specs: tuple[str, ...] | None = None
    oracles: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    profile: str | None = None
    seed: int | None = None
    jobs: int | None = None
    require: tuple[str, ...] = ()
    require_devices: tuple[str, ...] = ()
    require_verdict: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    time_limit: float | None = None
    cache: bool | str | None = None
    report: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder to which its paths are relative."""
        return self.path.parent if self.path else Path.cwd()


def nearest(start: Path) -> Configuration:
    """The table in the folder or in the nearest folder above that has one; an empty one if none has.

    Raises:
        UsageError: For a table that cannot be understood.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        table = _table(path) if path.is_file() else None
        if table is not None:
            return parse(table, path)
    return Configuration()


def read(path: Path) -> Configuration:
    """The table of this file.

    Raises:
        UsageError: Where the file cannot be read, has no such table, or one that is wrong.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    table = _table(path)
    if table is None:
        raise UsageError(f"{path} has no table [tool.gradcheck]; add one, or leave --config out")
    return parse(table, path.absolute())


def _table(path: Path) -> Any:
    """`tool.gradcheck` of the file, or None; a file that never names it is not even parsed."""
    try:
        data = path.read_bytes()
        if b"gradcheck" not in data:
            return None
        tool = tomllib.loads(data.decode("utf-8")).get("tool", {})
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    return tool.get("gradcheck") if isinstance(tool, dict) else None


def parse(table: Any, path: Path | None = None) -> Configuration:
    """The configuration that a table of TOML describes.

    Raises:
        UsageError: For an unknown key, suggesting the nearest, and for a value of the wrong kind.
    """
    where = f"{path}, [tool.gradcheck]" if path else "[tool.gradcheck]"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: expected a table of keys, got {_shown(table)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise UsageError(f"{where}: {unknown('key', key, tuple(_KEYS))}")
        values[key] = _KEYS[key](value, f"{where}: {key}")
    return Configuration(path=path, **values)


def unknown(what: str, word: str, words: Sequence[str]) -> str:
    """What to say of a word that is not known."""
    near = get_close_matches(word, words, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"there is no {what} {word!r}; {guess}there are {', '.join(words)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# ---------------------------------------------------------------------- kinds of values


def _some_words(value: Any, where: str) -> tuple[str, ...]:
    """A word, or a list of words that is not empty."""
    if not (words := _words(value, where)):
        raise UsageError(f"{where} is empty; name at least one, or leave the key out")
    return words


def _words(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise UsageError(f'{where}: expected a list of strings such as ["…"], got {_shown(value)}')
    if any(not item.strip() for item in items):
        raise UsageError(f"{where}: one of the strings is empty")
    return tuple(dict.fromkeys(items))


def _word(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f'{where}: expected a string such as "…", got {_shown(value)}')
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{where}: expected a whole number, got {_shown(value)}")
    return value


def _positive(value: Any, where: str) -> int:
    if (number := _whole(value, where)) < 1:
        raise UsageError(f"{where}: expected 1 or more, got {number}")
    return number


def _seconds(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UsageError(f"{where}: expected seconds such as 300, got {_shown(value)}")
    return float(value)


def _switch(value: Any, where: str) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: expected true, false or a folder, got {_shown(value)}")
    return value


def verdicts(value: Any, where: str = "require_verdict") -> dict[str, str]:
    """What must be reached, by pattern: a single verdict is meant for all specs.

    Raises:
        UsageError: For a verdict that cannot be required.
    """
    table = {"*": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise UsageError(
            f'{where}: expected "proved", or a table such as {{ "specs/softmax.py" = "proved" }}, '
            f"got {_shown(value)}"
        )
    for pattern, verdict in table.items():
        if not isinstance(pattern, str):
            raise UsageError(f"{where}: {_shown(pattern)} is no pattern of specs; write it as text")
        if not isinstance(verdict, str) or verdict not in VERDICTS:
            raise UsageError(f"{where}, {pattern}: {unknown('verdict', str(verdict), VERDICTS)}")
    return dict(table)


def gaps(value: Any, where: str = "gaps") -> tuple[Gap, ...]:
    """Known gaps from a list of tables (a `Gap` stays what it is).

    Raises:
        UsageError: For a gap without a claim, an input, a reason or a date, or with anything else.
    """
    if not isinstance(value, list | tuple):
        raise UsageError(
            f"{where}: expected a list of tables, each written under [[tool.gradcheck.gaps]], "
            f"got {_shown(value)}"
        )
    return tuple(_gap(item, f"{where}, number {i}") for i, item in enumerate(value, 1))


def _gap(value: Any, where: str) -> Gap:
    if isinstance(value, Gap):
        return value
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected a table with {', '.join(_GAP_KEYS)}, got {value!r}")
    for key in value:
        if key not in _GAP_KEYS:
            raise UsageError(f"{where}: {unknown('key', str(key), _GAP_KEYS)}")
    for key in ("claim", "input", "reason", "until"):
        if key not in value:
            raise UsageError(
                f"{where}: {key} is missing; a known gap says claim, input, reason, until"
            )
    words = {key: _word(value[key], f"{where}: {key}") for key in value if key != "until"}
    return Gap(**words, until=_date(value["until"], f"{where}: until"))


def _date(value: Any, where: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: expected a date such as 2026-12-31, got {value!s}") from None


_KEYS: dict[str, Callable[[Any, str], Any]] = {
    "specs": _some_words,
    "oracles": _some_words,
    "devices": _some_words,
    "dtypes": _some_words,
    "profile": _word,
    "seed": _whole,
    "jobs": _positive,
    "require": _words,
    "require_devices": _words,
    "require_verdict": verdicts,
    "gaps": gaps,
    "time_limit": _seconds,
    "cache": _switch,
    "report": _words,
}


# ---------------------------------------------------------------------- spec files


def is_spec_file(path: Path) -> bool:
    """Whether a file among specs is taken for one: Python, and neither private nor of tests."""
    return path.suffix == ".py" and not path.name.startswith(("_", "test_", "conftest"))


def spec_files(patterns: Iterable[str], folder: Path) -> list[Path]:
    """The spec files that patterns match, relative to a folder; a pattern may name a folder itself.

    Raises:
        UsageError: For a pattern that matches none: a gate that looks at nothing must not pass.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = _matching(pattern, folder)
        if not matched:
            raise UsageError(
                f"{pattern!r} matches no spec file in {folder}; write a pattern such as "
                '"specs/*.py", relative to that folder (files that begin with _, test_ or '
                "conftest are left out)"
            )
        found.update(dict.fromkeys(matched))
    return list(found)


def _matching(pattern: str, folder: Path) -> list[Path]:
    if "\0" in pattern:
        return []
    place = os.path.join(folder, pattern)  # noqa: PTH118  Path.glob refuses absolute patterns
    if os.path.isdir(place):  # noqa: PTH112  a pattern may be no path at all
        place = os.path.join(place, "*.py")  # noqa: PTH118
    paths = (Path(name) for name in glob.glob(place, recursive=True))  # noqa: PTH207
    return sorted(Path(os.path.normpath(p)) for p in paths if is_spec_file(p) and p.is_file())
