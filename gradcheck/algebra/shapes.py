"""Shape strings: `"m n"`, `"4 n"`, `"#n"`, `"... n"`, and the sizes of their axes.

A shape is a tuple of dimensions, each a string: the name of an axis, a number, `#n` (size n or 1,
broadcast), or a leading `...` for any number of axes, which stand as `...0`, `...1`, … once their
number is known. Dimensions that no one has named (of a user's own strategy) are called `?x0`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck.errors import ShapeError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Shape = tuple[str, ...]

DOTS = "..."
_NAME = re.compile(r"[^\W\d]\w*\Z")
_LEADING = re.compile(r"\.\.\.(\d+)\Z")


def parse_shape(text: str) -> Shape:
    """The dimensions of a shape string; `""` is a scalar.

    Raises:
        SpecError: If the text is not a shape; the hint says what to write instead.
    """
    if not isinstance(text, str):
        problem = f"a shape is a string of axes such as 'm n', but {text!r} came"
        hint = f"write {' '.join(map(str, text))!r}" if isinstance(text, tuple | list) else ""
        raise SpecError(problem, hint=hint)
    dims = tuple(text.split())
    for position, dim in enumerate(dims):
        _check_dim(dim, position, text)
    return dims


def _check_dim(dim: str, position: int, text: str) -> None:
    """Refuse what is no dimension, with the nearest thing that is one."""
    if dim == DOTS:
        if position > 0:
            rest = " ".join(d for d in text.split() if d != DOTS)
            problem = f"shape {text!r}: '...' stands for leading axes, once and before all others"
            raise SpecError(problem, hint=f"write {f'... {rest}'.strip()!r}")
        return
    if is_number(dim) or _NAME.match(dim.removeprefix("#")):
        return
    mended = " ".join(re.findall(r"\.\.\.|#?\w+", text))
    hint = "axes are names (m), numbers (4), '#n' or a leading '...', with spaces between them"
    if mended and all(_is_dim(d) for d in mended.split()) and mended != text:
        hint = f"write {mended!r}: {hint}"
    problem = f"shape {text!r}: {dim!r} is no axis"
    raise SpecError(problem, hint=hint)


def _is_dim(dim: str) -> bool:
    return dim == DOTS or is_number(dim) or bool(_NAME.match(dim.removeprefix("#")))


def is_number(dim: str) -> bool:
    """Whether the dimension is a fixed size, as in `"4 n"`."""
    return dim.isascii() and dim.isdigit()


def is_broadcast(dim: str) -> bool:
    """Whether the dimension is `#n`: of size n or 1."""
    return dim.startswith("#")


def is_anonymous(dim: str) -> bool:
    """Whether the dimension is one that nobody has named, `?x0`."""
    return dim.startswith("?")


def base_axis(dim: str) -> str:
    """The axis itself: `n` for `#n`."""
    return dim.removeprefix("#")


def axes_of(shape: Iterable[str]) -> tuple[str, ...]:
    """The distinct axis names of a shape in order; `...` and numbers are not among them."""
    names = (base_axis(dim) for dim in shape if dim != DOTS and not is_number(dim))
    return tuple(dict.fromkeys(names))


def leading_axes(rank: int) -> Shape:
    """The names of `rank` leading axes: `...0`, `...1` and so on."""
    return tuple(f"{DOTS}{i}" for i in range(rank))


def at_rank(shape: Shape, rank: int) -> Shape:
    """The shape with `...` replaced by `rank` leading axes."""
    if DOTS not in shape:
        return shape
    return leading_axes(rank) + shape[1:]


def rank_in(sizes: Iterable[str]) -> int:
    """How many leading axes a table of sizes speaks of."""
    return sum(1 for name in sizes if _LEADING.match(name))


def concrete_shape(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape as numbers; `...` becomes as many leading axes as `sizes` holds.

    Raises:
        ShapeError: If an axis has no size.
    """
    dims = at_rank(shape, rank_in(sizes))
    missing = [dim for dim in dims if not is_number(dim) and dim not in sizes]
    if missing:
        known = ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "none"
        problem = f"no size is known for axis {missing[0]!r} of {show(shape)}; known: {known}"
        raise ShapeError(problem)
    return tuple(int(dim) if is_number(dim) else sizes[dim] for dim in dims)


def fits(shape: Shape, actual: tuple[int, ...], sizes: Mapping[str, int]) -> bool:
    """Whether an array's shape is the declared one; anonymous dimensions fit every size."""
    return len(shape) == len(actual) and all(
        is_anonymous(dim) or size == (int(dim) if is_number(dim) else sizes.get(dim, size))
        for dim, size in zip(shape, actual, strict=True)
    )


def show(shape: Shape) -> str:
    """The shape as the user writes it, in quotes."""
    return repr(" ".join(shape))


def infer_sizes(
    shapes: Mapping[str, Shape], arrays_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """The size of each axis, from the shapes of actual arrays.

    `#n` has an entry of its own, `"#n"`; leading axes are `"...0"`, `"...1"`, … and are the same in
    all inputs that have them. An axis that occurs only as `#n` gets the size of `#n`.

    Args:
        shapes: The declared shape of each input.
        arrays_shapes: The shape of the array that came for each input.

    Raises:
        ShapeError: If a rank or a size does not fit; both inputs are named.
    """
    rank = _common_rank(shapes, arrays_shapes)
    sizes: dict[str, int] = {}
    owners: dict[str, str] = {}
    for name, shape in shapes.items():
        for dim, size in zip(at_rank(shape, rank), arrays_shapes[name], strict=True):
            if is_number(dim):
                _check_number(name, shape, arrays_shapes[name], int(dim), size)
            elif sizes.setdefault(dim, size) != size:
                claims = ((name, size), (owners[dim], sizes[dim]))
                raise _disagreement(dim, claims, shapes, arrays_shapes)
            else:
                owners.setdefault(dim, name)
    for dim in [dim for dim in sizes if is_broadcast(dim)]:
        axis = base_axis(dim)
        if sizes[dim] not in (1, sizes.setdefault(axis, sizes[dim])):
            claims = ((owners[dim], sizes[dim]), (owners[axis], sizes[axis]))
            raise _disagreement(dim, claims, shapes, arrays_shapes)
    return sizes


def _common_rank(shapes: Mapping[str, Shape], arrays_shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of leading axes, after every rank was checked."""
    rank, owner = 0, ""
    for name, shape in shapes.items():
        if name not in arrays_shapes:
            problem = f"no array came for {name}, expected shape {show(shape)}"
            raise ShapeError(problem)
        actual = arrays_shapes[name]
        least = len(shape) - (DOTS in shape)
        extra = len(actual) - least
        if extra < 0 or (extra > 0 and DOTS not in shape):
            at_least = "at least " if DOTS in shape else ""
            problem = (
                f"{name} has shape {actual}, of rank {len(actual)}; "
                f"expected {name}: {show(shape)}, of {at_least}rank {least}"
            )
            raise ShapeError(problem)
        if DOTS not in shape:
            continue
        if owner and extra != rank:
            problem = (
                f"{name} has shape {actual}, so '...' is {extra} axes, but {owner} has shape "
                f"{arrays_shapes[owner]}, so '...' is {rank} axes; expected {name}: {show(shape)}"
            )
            raise ShapeError(problem)
        rank, owner = extra, name
    return rank


def _check_number(
    name: str, shape: Shape, actual: tuple[int, ...], expected: int, size: int
) -> None:
    if size != expected:
        problem = (
            f"{name} has shape {actual}, with {size} where {expected} is declared; "
            f"expected {name}: {show(shape)}"
        )
        raise ShapeError(problem)


def _disagreement(
    dim: str,
    claims: tuple[tuple[str, int], tuple[str, int]],
    shapes: Mapping[str, Shape],
    arrays_shapes: Mapping[str, tuple[int, ...]],
) -> ShapeError:
    """The error that names both inputs of one axis and what each makes of it."""
    (name, size), (other, other_size) = claims
    axis, expected = base_axis(dim), f"expected {name}: {show(shapes[name])}"
    if other == name:
        return ShapeError(
            f"{name} has shape {arrays_shapes[name]}, so {axis} = {size} and {axis} = "
            f"{other_size}; {expected}"
        )
    return ShapeError(
        f"{name} has shape {arrays_shapes[name]}, so {axis} = {size}, but {other} has shape "
        f"{arrays_shapes[other]}, so {axis} = {other_size}; {expected}"
    )
