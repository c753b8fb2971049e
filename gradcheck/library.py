"""Finding and loading specs: the bundled ones, a user's files and folders, and the text of a chain."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import linecache
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.source import caller
from gradcheck.configuration import is_spec_file
from gradcheck.errors import GradcheckError, Location, SpecError, UsageError
from gradcheck.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent
# Under this name a loaded spec file has the hash of the text that was run.
SOURCE = "__source_sha256__"


@dataclass(frozen=True)
class Target:
    """Something to verify: an operation, and the address under which another process finds it.

    Attributes:
        name: Its name in reports.
        operation: The spec or chain.
        address: `file.py::name`, or the text of a chain; empty for one that lives only in memory.
        path: The file it stands in, if any.
    """

    name: str
    operation: Operation
    address: str
    path: Path | None


def specs_folder() -> Path:
    """The folder of the bundled specs: inside the package, or beside it in a checkout.

    Raises:
        UsageError: Naming both places, where neither is there.
    """
    inside, beside = _PACKAGE / "_specs", _PACKAGE.parent / "specs"
    if inside.is_dir():
        return inside
    if beside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return beside
    raise UsageError(
        f"the bundled specs are neither in {inside} nor in {beside}; reinstall gradcheck"
    )


def load(name: str) -> Operation:
    """A spec or chain by name.

    Args:
        name: A spec in the calling file's folder, a bundled spec, a file `specs/mine.py`, or
            `specs/mine.py::name`.

    Raises:
        UsageError: Suggesting the nearest names, where there is no such spec.
        SpecError: Where its file cannot be loaded.
    """
    if not isinstance(name, str):
        raise UsageError(f"load takes the name of a spec, such as 'softmax', and {name!r} came")
    here = caller()
    folder = Path(here.file).parent if here and not here.file.startswith("<") else None
    if "::" in name or name.endswith(".py"):
        targets = resolve([name])
        if len(targets) != 1:
            names = ", ".join(t.name for t in targets)
            raise UsageError(f"{name} holds {len(targets)} specs ({names}); write {name}::NAME")
        return targets[0].operation
    for place in dict.fromkeys([folder, specs_folder()]):
        if place is not None and (found := _in_folder(place, name)) is not None:
            return found
    raise _unknown(name)


def _in_folder(folder: Path, name: str) -> Operation | None:
    """A name in the file of the same name, or else in any file of the bundled folder."""
    path = folder / f"{name}.py"
    calling = caller()
    if path.is_file() and not (calling and Path(calling.file) == path):
        found = _operations(path).get(name)
        if found is not None:
            return found
    if folder != specs_folder() or (calling and Path(calling.file).parent == folder):
        return None
    for other in _files(folder):
        if name in (operations := _operations(other)):
            return operations[name]
    return None


def _unknown(name: str) -> UsageError:
    known = sorted(p.stem for p in _files(specs_folder()))
    near = get_close_matches(name, known, n=2)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(
        f"there is no spec {name!r}; {guess}bundled are {', '.join(known)}; a file is named by its path"
    )


def bundled() -> list[Target]:
    """The bundled specs and chains, in the order of their files' names."""
    return _of_folder(specs_folder())


def resolve(
    targets: Sequence[str], broken: dict[str, GradcheckError] | None = None
) -> list[Target]:
    """What the texts name: specs, files, `file.py::name`, folders, chains; nothing is all bundled.

    Args:
        targets: The texts.
        broken: Where it is given, takes each file or chain that cannot be loaded and why; the others
            are found all the same.

    Raises:
        UsageError: For a text that names nothing.
        SpecError: For a file that cannot be loaded, or a chain that does not fit.
    """
    if not targets:
        return _of_folder(specs_folder(), broken)
    found: dict[str, Target] = {}
    for text in targets:
        try:
            found.update((t.address, t) for t in _resolve_one(text, broken))
        except SpecError as error:
            if broken is None:
                raise
            broken[text] = error
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise UsageError(f"{text!r} cannot be looked up: {error.strerror}") from None
    return list(found.values())


def _resolve_one(text: str, broken: dict[str, GradcheckError] | None) -> list[Target]:
    if not text.strip():
        raise UsageError(
            "a target is empty; name a spec, a file, a folder (. is this one) or a chain"
        )
    if "::" in text:
        return [_of_address(text)]
    path = Path(text)
    if _is(path.is_dir):
        if not (targets := _of_folder(path, broken)) and not broken:
            raise UsageError(f"the folder {text} holds no specs")
        return targets
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"there is no file {text}")
        if not (targets := _of_file(path)):
            raise UsageError(
                f"{text} holds no spec: assign one to a name, such as softmax = Spec(...)"
            )
        return targets
    if text.isidentifier():
        return [_target(load(text))]
    if _is(path.is_file):
        raise UsageError(f"{text} is no spec file; the name of one ends in .py")
    if text.startswith(("/", "./", "../", "~")):
        raise UsageError(f"there is no file or folder {text}")
    return [Target(_tidy(text), parse_chain(text), text, None)]


def _is(question: Callable[[], bool]) -> bool:
    """What a path is asked; a text that is too long for one, as a chain may be, is no path."""
    try:
        return question()
    except OSError:
        return False


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _of_address(text: str) -> Target:
    file, _, name = text.partition("::")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"there is no file {file or 'before ::'}; write file.py::name")
    operations = _operations(path)
    if name not in operations:
        near = get_close_matches(name, operations, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        held = ", ".join(operations) or "none"
        raise UsageError(f"{file} has no spec {name!r}; {guess}it holds: {held}")
    return _target(operations[name])


def _target(operation: Operation) -> Target:
    address = getattr(operation, "address", "")
    path = Path(address.partition("::")[0]) if "::" in address else None
    return Target(operation.name, operation, address, path)


def _of_folder(folder: Path, broken: dict[str, GradcheckError] | None = None) -> list[Target]:
    found: list[Target] = []
    for path in _files(folder):
        try:
            found += _of_file(path)
        except SpecError as error:
            if broken is None:
                raise
            broken[str(_short(path))] = error
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(filter(is_spec_file, folder.glob("*.py")))


def _of_file(path: Path) -> list[Target]:
    operations = _operations(path)
    _refuse_unnamed(path, operations)
    return [_target(op) for op in operations.values() if _home(op) == path.resolve()]


def _refuse_unnamed(path: Path, operations: dict[str, Operation]) -> None:
    """Specs in a list or a table of the file have no address: they would be passed over in silence.

    Raises:
        SpecError: Naming the list, unless the specs have names of their own too or came from a file.
    """
    named = {id(operation) for operation in operations.values()}
    for name, value in vars(_module(path)).items():
        held = value.values() if isinstance(value, dict) else value
        if name.startswith("_") or not isinstance(value, dict | list | tuple):
            continue
        specs = [item for item in held if isinstance(item, Operation)]
        if any(id(s) not in named and not getattr(s, "address", "") for s in specs):
            raise SpecError(
                f"{name} holds specs that have no name of their own, so that nothing would verify them",
                hint=f"bind each to a name: cube = Spec(...), or for those made in a loop: "
                f'globals()[f"cube_{{k}}"] = Spec(...); or call the list _{name} to leave them out',
                location=Location(str(path.resolve()), 1),
            )


def _short(path: Path) -> Path:
    """The path as one would type it: relative to the working folder where it lies below."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _home(operation: Operation) -> Path | None:
    return getattr(operation, "home", None)


def _operations(path: Path) -> dict[str, Operation]:
    """The specs and chains that a file binds to names, those it loaded from elsewhere included."""
    with _ONE_AT_A_TIME:
        return _named(path, _module(path))


def _named(path: Path, module: ModuleType) -> dict[str, Operation]:
    found = {n: v for n, v in vars(module).items() if isinstance(v, Operation) and n[0] != "_"}
    for name, operation in found.items():
        if not getattr(operation, "address", ""):
            operation.address = f"{_short(path)}::{name}"  # type: ignore[attr-defined]
            # The address is short for the folder in which it was loaded; this holds in any.
            operation.home = path.resolve()  # type: ignore[attr-defined]
            if (
                operation.location is None
                or operation.name in ("spec", "")
                or ">>" in operation.name
            ):
                operation.name = name
            operation.location = operation.location or Location(str(path.resolve()), 1)
            operation.doc = (module.__doc__ or operation.doc).strip()
    return found


_LOADED: dict[Path, tuple[int, ModuleType]] = {}
_LOADING: list[Path] = []
# One thread loads at a time, and the others wait: half a file is no spec, and what another thread is
# loading is no circle.
_ONE_AT_A_TIME = RLock()


def _module(path: Path) -> ModuleType:
    """The file as a module under a stable name, loaded again where it changed."""
    path = path.resolve()
    stamp = path.stat().st_mtime_ns
    with _ONE_AT_A_TIME:
        known = _LOADED.get(path)
        if known is None or known[0] != stamp:
            known = _LOADED[path] = stamp, _loaded_anew(path)
    return known[1]


def _loaded_anew(path: Path) -> ModuleType:
    if path in _LOADING:
        cycle = " → ".join(p.name for p in [*_LOADING, path])
        raise SpecError(f"spec files load each other in a circle: {cycle}", hint="break the circle")
    name = f"gradcheck.specs.{path.stem}"
    if path.parent != specs_folder():
        name += "_" + hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    _LOADING.append(path)
    try:
        return _execute(path, name)
    finally:
        _LOADING.pop()


def loaded() -> list[Path]:
    """The spec files that this process has loaded."""
    return list(_LOADED)


def forget(paths: Iterable[Path]) -> None:
    """Load these files anew when they are asked for again."""
    for path in list(paths):
        _LOADED.pop(path, None)


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    linecache.checkcache(str(path))  # names and terms are looked up in its lines
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not through the loader: bytecode that Python kept counts as fresh for a whole second, and would
        # be a file that was saved twice as it was before.
        data = path.read_bytes()
        setattr(module, SOURCE, hashlib.sha256(data).hexdigest())
        exec(compile(data, str(path), "exec", dont_inherit=True), vars(module))
    except (SpecError, UsageError) as error:
        del sys.modules[name]
        raise _placed(path, error) from None
    except (Exception, SystemExit) as error:  # an exit's code would pass for a verdict
        del sys.modules[name]
        raise _load_error(path, error) from error
    return module


def _placed(path: Path, error: SpecError | UsageError) -> SpecError:
    """An error of gradcheck's own that a file raised, at the line of that file where it did."""
    found = error if isinstance(error, SpecError) else SpecError(str(error))
    return found.within(location=Location(str(path), _line_of(path, error)))


def _line_of(path: Path, error: BaseException) -> int:
    """The last line of a file that was running when it raised; the first where none was."""
    line = error.lineno or 1 if isinstance(error, SyntaxError) else 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _load_error(path: Path, error: BaseException) -> SpecError:
    """What went wrong in a spec file, at the line of that file where it did."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return SpecError(
        f"the file cannot be loaded: {type(error).__name__}: {text}".removesuffix(": "),
        hint=_load_hint(error, text),
        location=Location(str(path), _line_of(path, error)),
    )


def _load_hint(error: BaseException, text: str) -> str:
    """What to write instead, where it is known."""
    if isinstance(error, NameError):
        return "import it, for example: from gradcheck import Spec, delta, einsum, ones, real, size"
    if isinstance(error, SystemExit):
        return 'put what ends the program under: if __name__ == "__main__":'
    if isinstance(error, TypeError) and text.startswith(
        "Spec.__init__() got an unexpected keyword"
    ):
        from gradcheck.spec import Spec

        return f"Spec takes {', '.join(inspect.signature(Spec).parameters)}"
    return ""


def parse_chain(text: str) -> Operation:
    """A chain from its text, as it would be written in Python.

    Only names of specs, strings, numbers, calls, `>>`, `+`, `-` and `*` mean anything; nothing else is
    evaluated.

    Raises:
        UsageError: Where the text is something else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        where = f" at column {error.offset}" if error.offset else ", it ends too early"
        raise UsageError(
            f"{text!r} is neither a file, a folder, a spec nor a chain: {error.msg}{where}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a lone surrogate, a deep nesting
        raise UsageError(
            f"{text!r} is neither a file, a folder, a spec nor a chain: {error}"
        ) from None
    operation = _evaluate(tree.body, text)
    if not isinstance(operation, Operation):
        raise UsageError(f"{text!r} is no chain; write 'weighted_sum >> softmax'")
    return operation


def _evaluate(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return load(name)
        case ast.Constant(value=str() | int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.BinOp(left=left, op=op, right=right):
            return _combine(_evaluate(left, text), op, _evaluate(right, text), text)
        case ast.Call(func=ast.Name() as func, args=args, keywords=keywords):
            if any(k.arg is None for k in keywords):
                raise UsageError(f"** in the chain {text!r} means nothing here; name each input")
            named = {k.arg: _evaluate(k.value, text) for k in keywords if k.arg}
            return _evaluate(func, text)(*(_evaluate(a, text) for a in args), **named)
    raise UsageError(
        f"{ast.unparse(node)!r} in the chain {text!r} means nothing here; "
        "a chain is made of specs, names in quotes, calls, >>, + and -"
    )


def _combine(left: Any, op: ast.operator, right: Any, text: str) -> Any:
    if isinstance(op, ast.RShift):
        return left >> right
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    if isinstance(op, ast.Mult):
        return left * right
    raise UsageError(f"the chain {text!r} joins specs by >>, + and - only")
