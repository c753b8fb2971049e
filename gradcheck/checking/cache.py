"""Results kept from run to run, under a key of everything that they depend on.

Only what supports a claim, or leaves it undecided, is kept. A refutation, an error or a check that was
skipped is always done again, so that no kept result can hide one. What has no complete key (a claim
that lives in memory, a spec file that reads another file, the user's own data, a GPU) is not kept.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.checking.run import blank
from gradcheck.dependencies import Unknowable, dependencies, packages
from gradcheck.library import SOURCE
from gradcheck.operation import Operation
from gradcheck.reports.formats import replace_file
from gradcheck.reports.model import Check, Verdict
from gradcheck.reports.strict import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from gradcheck.checking.plan import Planned

FOLDER = Path(".gradcheck_cache")
# Raise it when the meaning of a kept result changes.
_FORMAT = 2
_KEPT = (Verdict.PROVED, Verdict.IDENTITY, Verdict.AGREES, Verdict.UNDECIDED)
_ALWAYS = ("numpy", "hypothesis", "python-flint", "opt_einsum")
_DISTRIBUTIONS = {
    "jax": ("jax", "jaxlib"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "keras"),
}


class Cache:
    """Results in a folder, one small file each.

    Args:
        folder: Where they lie; made when the first one is written.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.trouble = ""
        self._keys: dict[str, str | None] = {}

    def find(self, planned: Planned) -> Check | None:
        """The kept result of a check, if nothing that it depends on has changed."""
        key = self._keys[planned.id] = key_of(planned)
        if key is None:
            return None
        try:
            entry = json.loads(self._file(key).read_text(encoding="utf-8"))
            whole = entry["key"] == key and entry["sum"] == _sum(entry["check"])
            check = Check.from_dict(entry["check"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None  # absent or damaged: it is done again
        if not whole or check.verdict not in _KEPT or _identity(check) != _identity(blank(planned)):
            return None
        check.required, check.cached = planned.required, True
        return check

    def keep(self, planned: Planned, check: Check) -> None:
        """Keep a result, where it may be kept, and nothing changed since it was looked for."""
        key = key_of(planned) if check.verdict in _KEPT and not check.cached else None
        if key is None or key != self._keys.get(planned.id, key):
            return
        found = encode(check)
        text = json.dumps({"key": key, "sum": _sum(found), "check": found}, ensure_ascii=False)
        try:
            self._prepare()
            file = self._file(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text.encode())
        except OSError as error:  # a full disk loses the cache, never the run
            self.trouble = f"results are not kept: {self.folder}: {error.strerror or error}"

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"

    def _prepare(self) -> None:
        """The folder, marked so that neither version control nor backups take it."""
        if self.folder.is_dir():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
        tag = "Signature: 8a477f597d28d172789f06886806bc55\n# Results kept by gradcheck.\n"
        (self.folder / "CACHEDIR.TAG").write_text(tag, encoding="utf-8")


def _sum(check: Any) -> str:
    """What tells an entry that was damaged on its way; one that somebody forged it cannot tell."""
    return hashlib.sha256(json.dumps(check, sort_keys=True).encode()).hexdigest()


def _identity(check: Check) -> tuple[str, ...]:
    return check.claim, check.input, check.oracle, check.device, check.dtype, check.address


def key_of(planned: Planned) -> str | None:
    """What a result is kept under: a hash of all that it depends on, or None where that is unknown."""
    if planned.oracle is None or planned.skip or planned.data is not None or not planned.address:
        return None
    if planned.device != "cpu" or planned.operation is None:
        return None
    try:
        files = sources(planned.operation)
        texts = [f"{file}:{_digest(file)}" for file in files]
        versions = sorted({f"{n}=={_any_version(n)}" for file in files for n in packages(file)})
    except (Unknowable, OSError, SyntaxError):  # or it was deleted, or half-written, meanwhile
        return None
    if not _as_loaded(files):
        return None
    oracle = planned.oracle
    parts = (_FORMAT, planned.id, planned.profile, planned.seed, oracle.name, oracle.framework)
    facts = [repr(parts), _own(), *_versions(oracle.framework), *versions, *texts]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def sources(operation: Operation) -> tuple[Path, ...]:
    """Every file that is not installed on which an operation depends.

    Raises:
        Unknowable: Where a part of it has no file, or the file reads something unnamed.
    """
    found: set[Path] = set()
    for file in set(_files(operation)):
        found.update(dependencies(file))
    return tuple(sorted(found))


def _files(operation: Operation) -> Iterator[Path]:
    """The files in which an operation, its links and their functions were written."""
    home = getattr(operation, "home", None)
    if home is not None:
        yield home
    nodes: Any = getattr(operation, "nodes", ())
    for node in nodes:
        yield from _files(node.call.operation)
    forward: Any = getattr(operation, "forward", None)
    if isinstance(forward, Operation):
        yield from _files(forward)
    elif forward is not None:
        yield from _file_of(forward)
    if operation.location is not None:
        yield from _named(operation.location.file)
    for function in operation.native.values():
        yield from _file_of(function)


def _file_of(function: Callable[..., Any]) -> Iterator[Path]:
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    if code is not None:  # a function in C belongs to an installed package, whose version counts
        yield from _named(code.co_filename)


def _named(file: str) -> Iterator[Path]:
    path = Path(file)
    if not path.is_file():
        raise Unknowable(f"{file} is no file")
    installed = "site-packages" in path.parts or path.resolve().is_relative_to(_PACKAGE)
    if not installed or path.parent.name == "_specs":
        yield path.resolve()


_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def _own() -> str:
    """The source of gradcheck itself: its version alone would not change while one works on it."""
    files = sorted(p for p in _PACKAGE.rglob("*.py") if "_specs" not in p.parts)
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()


@cache
def _versions(framework: str) -> tuple[str, ...]:
    names = dict.fromkeys((*_ALWAYS, *_DISTRIBUTIONS.get(framework, (framework,))))
    machine = (platform.python_version(), platform.machine(), platform.system())
    return (*machine, *(f"{n}=={v}" for n in names if (v := _version(n))))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@cache
def _any_version(module: str) -> str:
    """The version of the distribution that a module belongs to.

    Raises:
        Unknowable: Where no distribution says that it is its own.
    """
    if version := _version(module):
        return version
    names = metadata.packages_distributions().get(module, ())
    if not names:
        raise Unknowable(f"{module} is installed, and of no known version")
    return " ".join(_version(name) for name in names)


# The modules that were imported from files in this process, and the hash of each file when it was first
# looked at: one that was saved since is not what runs.
_SEEN: dict[Path, tuple[ModuleType, str]] = {}


def _as_loaded(files: Iterable[Path]) -> bool:
    """Whether what this process has loaded from these files is what they hold now."""
    wanted = {str(file): file for file in files}
    for module in list(sys.modules.values()):
        held = getattr(module, "__dict__", None) or {}
        name = held.get("__file__")
        file = wanted.get(name) if isinstance(name, str) else None
        if file is None:
            continue
        digest = _digest(file)
        if held.get(SOURCE, digest) != digest:
            return False
        if SOURCE not in held:
            seen = _SEEN.setdefault(file, (module, digest))
            if seen[0] is not module:
                _SEEN[file] = seen = (module, digest)
            if seen[1] != digest:
                return False
    return True


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
