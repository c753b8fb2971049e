"""Which files a spec file's meaning depends on: itself, what it imports, and the specs that it loads.

Read from the source, not from what happens to be imported: the answer is the same in every process. A
file that looks at anything else (another file, the environment, a clock) has no complete answer, and
whoever keeps results under a key must not keep those.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names by which a module reads what no import statement shows.
_ELSEWHERE = frozenset(
    [
        *("open", "exec", "eval", "compile", "__import__", "import_module", "environ", "getenv"),
        *("genfromtxt", "fromfile", "memmap", "urlopen", "urlretrieve", "File"),
        *("spec_from_file_location", "run_path", "getline", "get_data", "argv", "random"),
    ]
)
_CHANGING = frozenset(
    [
        *(
            "random",
            "secrets",
            "time",
            "datetime",
            "uuid",
            "socket",
            "subprocess",
            "os",
            "platform",
        ),
        *("io", "builtins", "importlib", "runpy", "pkgutil", "linecache", "fileinput", "glob"),
        *("sqlite3", "shelve", "configparser", "ctypes", "mmap", "tempfile", "urllib", "http"),
    ]
)
# So begin the names of functions that read files: imread, loadmat, open_memmap, read_hdf.
_READERS = ("imread", "load_", "loadmat", "loadtxt", "open_", "read_")
# What finds specs without an argument that could be read here.
_FINDERS = frozenset(("library", "resolve", "bundled"))


class Unknowable(Exception):
    """The file depends on something that its source does not name."""


def dependencies(path: Path) -> tuple[Path, ...]:
    """The file and every module that is not installed on which it depends, sorted.

    Args:
        path: A Python file.

    Raises:
        Unknowable: Naming what the file reads beside its imports.
    """
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting.extend(d for d in _direct(file, file.stat().st_mtime_ns) if d not in found)
    return tuple(sorted(found))


def packages(path: Path) -> tuple[str, ...]:
    """The installed packages beyond the standard library that a file imports, by their modules' names."""
    return _packages(path, path.stat().st_mtime_ns)


@cache
def _packages(path: Path, _stamp: int) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    names -= {"gradcheck", *sys.stdlib_module_names}
    return tuple(sorted(name for name in names if installed(_origin(name))))


@cache
def _direct(path: Path, _stamp: int) -> tuple[Path, ...]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise Unknowable(f"{path.name} cannot be read: {error}") from None
    return tuple(dict.fromkeys(_named(tree, path)))


def _named(tree: ast.AST, path: Path) -> Iterator[Path]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _module(alias.name, path)
            case ast.ImportFrom(module=str() as module, names=names) if _finds(module, names):
                raise Unknowable(f"{path.name} line {node.lineno} imports what finds specs")
            case ast.Assign(value=ast.Name(id="load")):
                raise Unknowable(f"{path.name} line {node.lineno} gives load another name")
            case ast.ImportFrom(module=module, names=names, level=0) if module:
                yield from _module(module, path)
                if taken := _reading(module, names):
                    raise Unknowable(
                        f"{path.name} line {node.lineno} imports {taken}, which reads a file"
                    )
                for alias in names:
                    yield from _module(f"{module}.{alias.name}", path)
            case ast.ImportFrom():
                raise Unknowable(f"{path.name} line {node.lineno} imports relatively")
            case ast.Call(func=ast.Name(id="load"), args=args):
                yield from _loaded(args, path, node.lineno)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="gradcheck"), attr="load"), args=args
            ):
                yield from _loaded(args, path, node.lineno)
            case ast.Call(func=ast.Attribute(attr="load")):  # of arrays, or of JSON
                raise Unknowable(f"{path.name} line {node.lineno} loads a file")
            case ast.Name(id=name) | ast.Attribute(attr=name) if _reads(name):
                raise Unknowable(f"{path.name} line {node.lineno} uses {name}")
            case _:
                pass


def _finds(module: str, names: list[ast.alias]) -> bool:
    """Whether an import takes from gradcheck what loads specs under a name that is not looked for."""
    if module.partition(".")[0] != "gradcheck":
        return False
    return any(a.name in _FINDERS or (a.name == "load" and a.asname) for a in names)


def _reading(module: str, names: list[ast.alias]) -> str:
    """What an import takes that reads a file, under whatever name; "" where it takes nothing such.

    `load` is gradcheck's own, which reads specs; of any other module it reads arrays or JSON.
    """
    own = module.partition(".")[0] == "gradcheck"
    taken = (a.name for a in names if _reads(a.name) or (a.name == "load" and not own))
    return next(taken, "")


def _reads(name: str) -> bool:
    """Whether a function of that name reads what no import names."""
    return name in _ELSEWHERE or name.startswith(_READERS)


def _module(name: str, path: Path) -> Iterator[Path]:
    """The files of a module that is not installed, its packages' included."""
    top = name.partition(".")[0]
    if top in _CHANGING or name == "gradcheck.library":
        raise Unknowable(f"{path.name} imports {name if top == 'gradcheck' else top}")
    if top == "gradcheck" or top in sys.stdlib_module_names or installed(_origin(top)):
        return
    parts = name.split(".")
    for k in range(1, len(parts) + 1):
        origin = _origin(".".join(parts[:k]))
        if origin is not None and origin.suffix != ".py":
            raise Unknowable(f"{path.name} imports {name}, which is compiled: {origin.name}")
        if origin is not None:
            yield origin


def _origin(name: str) -> Path | None:
    """The file that an import of this name would run; None for one that has none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin in (None, "built-in", "frozen", "namespace"):
        return None
    return Path(spec.origin or "").resolve()


@cache
def _installed_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[key]).resolve() for key in ("purelib", "platlib", "stdlib"))


def installed(origin: Path | None) -> bool:
    """Whether a file belongs to an installed package or to the standard library."""
    return origin is not None and any(origin.is_relative_to(r) for r in _installed_roots())


def _loaded(args: list[ast.expr], path: Path, line: int) -> Iterator[Path]:
    """The file of the spec that `load("name")` would find."""
    from gradcheck.library import specs_folder

    match args:
        case [ast.Constant(value=str() as name)]:
            pass
        case _:
            raise Unknowable(f"{path.name} line {line} loads a name that is computed")
    text = name.partition("::")[0]
    if text.endswith(".py"):
        yield Path(text).resolve()
        return
    for folder in (path.parent, specs_folder()):
        if (folder / f"{text}.py").is_file() and folder / f"{text}.py" != path:
            yield (folder / f"{text}.py").resolve()
    # The name may be a second spec of any bundled file.
    yield from (p.resolve() for p in sorted(specs_folder().glob("*.py")) if p != path)
