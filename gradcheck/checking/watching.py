"""Which targets a change of files concerns, and loading those anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck import library
from gradcheck.checking.cache import sources
from gradcheck.dependencies import Unknowable, dependencies, installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck.library import Target


def folders(targets: Sequence[Target]) -> list[Path]:
    """The folders in which a change may concern one of the targets."""
    found = {file.parent for target in targets for file in _sources(target) or ()}
    found.update(target.path.resolve().parent for target in targets if target.path is not None)
    return sorted(f for f in found if not any(other in f.parents for other in found))


def concerned(targets: Iterable[Target], changed: set[Path]) -> list[Target]:
    """The targets that depend on a changed file; those of which that is not known too."""
    found = []
    for target in targets:
        files = _sources(target)
        if files is None or changed.intersection(files):
            found.append(target)
    return found


def _sources(target: Target) -> tuple[Path, ...] | None:
    try:
        return sources(target.operation)
    except Unknowable:
        return None


def forget(changed: set[Path]) -> None:
    """Forget every spec file and every user's module that depends on a changed file."""
    library.forget(path for path in library.loaded() if _depends(path, changed))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "gradcheck":
            continue
        path = Path(file)
        if path.suffix == ".py" and not installed(path.resolve()) and _depends(path, changed):
            del sys.modules[name]


def _depends(path: Path, changed: set[Path]) -> bool:
    try:
        return bool(changed.intersection(dependencies(path)))
    except (Unknowable, OSError):
        return True
