"""A forward recorded: it runs once, on arrays that note what is done to them.

Each traced array holds the array itself beside its node, so that shapes and dtypes are the
framework's own. What depends on values (`if`, `float(...)`) cannot be recorded; such a forward is then
called as it is.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn

from gradcheck.errors import GradcheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.compiling.graph import Graph, Node

# xp's names for what operators do.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "pow": operator.pow, "matmul": operator.matmul,
    "negative": operator.neg, "abs": operator.abs, "less": operator.lt,
    "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne, "floordiv": operator.floordiv,
    "mod": operator.mod, "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "invert": operator.invert,
}  # fmt: skip
_PLAIN = frozenset({"add", "subtract", "multiply", "divide", "negative", "matmul"})


class Untraceable(Exception):
    """The forward does what cannot be recorded."""


class Recorder:
    """What traced arrays write into."""

    def __init__(self, graph: Graph, dtype_of: Callable[[Any], str]) -> None:
        self.graph = graph
        self.dtype_of = dtype_of

    def input(self, name: str, value: Any) -> Traced:
        """An array, or a number, that comes with each call."""
        return Traced(self, self.graph.input(name, *self._kind(value)), value)

    def _kind(self, value: Any) -> tuple[tuple[int, ...], str]:
        if type(value) in (float, int, bool):
            return (), "number"
        return tuple(value.shape), self.dtype_of(value)

    def note(self, op: str, value: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The result of an operation, with its node."""
        if not hasattr(value, "shape") and type(value) not in (float, int, bool):
            raise Untraceable(op)
        args = tuple(self._node(a) for a in args)
        options = {n: self._node(v) for n, v in options.items()}
        shape, dtype = self._kind(value)
        node = self.graph.add(op, *args, shape=shape, dtype=dtype, **options)
        return Traced(self, node, value)

    def _node(self, thing: Any) -> Any:
        if isinstance(thing, Traced):
            return thing.node
        if isinstance(thing, tuple | list):
            return type(thing)(self._node(t) for t in thing)
        if isinstance(thing, slice):
            return slice(*(self._node(t) for t in (thing.start, thing.stop, thing.step)))
        if hasattr(thing, "shape"):
            return self.graph.constant(thing, tuple(thing.shape), self.dtype_of(thing))
        if thing is None or thing is Ellipsis or isinstance(thing, int | float | str):
            return thing
        raise Untraceable(type(thing).__name__)


def plain(thing: Any) -> Any:
    """The arrays behind traced ones."""
    if isinstance(thing, Traced):
        return thing.value
    if isinstance(thing, tuple | list):
        return type(thing)(plain(t) for t in thing)
    if isinstance(thing, slice):
        return slice(plain(thing.start), plain(thing.stop), plain(thing.step))
    return thing


def has_traced(thing: Any) -> bool:
    """Whether a traced array is among the arguments."""
    if isinstance(thing, tuple | list):
        return any(map(has_traced, thing))
    if isinstance(thing, slice):
        return has_traced((thing.start, thing.stop, thing.step))
    return isinstance(thing, Traced)


def _binary(name: str, *, turned: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        pair = (other, self) if turned else (self, other)
        if not (has_traced(other) or hasattr(other, "shape") or type(other) in (int, float, bool)):
            return NotImplemented
        value = OPERATIONS[name](*map(plain, pair))
        op = name if name in _PLAIN else f"o.{name}"
        return self.recorder.note(op, value, pair, {})

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    def method(self: Traced) -> Any:
        value = OPERATIONS[name](self.value)
        op = name if name in _PLAIN else f"xp.{name}" if name == "abs" else f"o.{name}"
        return self.recorder.note(op, value, (self,), {})

    return method


class Traced:
    """An array that notes what is done to it."""

    __slots__ = ("node", "recorder", "value")
    __array_ufunc__ = None
    __array_priority__ = 1e6
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, recorder: Recorder, node: Node, value: Any) -> None:
        self.recorder, self.node, self.value = recorder, node, value

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the array; a number has none."""
        return self.node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.shape)

    @property
    def dtype(self) -> Any:
        """The dtype, as the framework names it."""
        return self.value.dtype

    @property
    def T(self) -> Any:  # noqa: N802 - the name that arrays give it
        """The transpose."""
        axes = tuple(reversed(range(self.ndim)))
        return self.recorder.note("transpose", self.value.T, (self, axes), {})

    def __getitem__(self, index: Any) -> Any:
        return self.recorder.note("index", self.value[plain(index)], (self, index), {})

    def __len__(self) -> int:
        return self.node.shape[0]

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise Untraceable("a value is looked at")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __setitem__ = __array__ = _refuse
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __contains__ = _refuse

    __add__, __radd__ = _binary("add"), _binary("add", turned=True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", turned=True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", turned=True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", turned=True)
    __pow__, __rpow__ = _binary("pow"), _binary("pow", turned=True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", turned=True)
    __floordiv__, __rfloordiv__ = _binary("floordiv"), _binary("floordiv", turned=True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", turned=True)
    __and__, __rand__ = _binary("and"), _binary("and", turned=True)
    __or__, __ror__ = _binary("or"), _binary("or", turned=True)
    __xor__, __rxor__ = _binary("xor"), _binary("xor", turned=True)
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__, __ne__ = _binary("equal"), _binary("not_equal")
    __neg__, __abs__, __invert__ = _unary("negative"), _unary("abs"), _unary("invert")

    def __getattr__(self, name: str) -> Any:
        if name == "axes_shape":  # what symbolic arrays have, and plain ones have not
            raise AttributeError(name)
        raise Untraceable(name)


# The namespace's names that are operations of the graph.
_SAME = {n: n for n in ("add", "subtract", "multiply", "divide", "negative", "matmul")}


class TracingNamespace:
    """The documented names of a namespace, recording what is done to traced arrays."""

    def __init__(self, xp: Any, recorder: Recorder, path: str = "xp") -> None:
        self._xp, self._recorder, self._path = xp, recorder, path

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._xp, name)
        if name == "linalg":
            return TracingNamespace(value, self._recorder, "xp.linalg")
        return self._recorded(name, value) if callable(value) else value

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if not (has_traced(args) or has_traced(tuple(options.values()))):
                return function(*args, **options)
            value = function(*map(plain, args), **{n: plain(v) for n, v in options.items()})
            if name in _SAME and not options:
                return self._recorder.note(name, value, args, {})
            args, options = _named_axis(name, args, options)
            return self._recorder.note(f"{self._path}.{name}", value, args, options)

        return call


_REDUCTIONS = ("sum", "max", "min", "prod", "mean", "logsumexp")


def _named_axis(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Reductions with their axis counted from the front, as keywords, so that equal ones are one."""
    if name not in _REDUCTIONS or len(args) > 3 or not isinstance(args[0], Traced):
        return args, options
    given = {**dict(zip(("axis", "keepdims"), args[1:], strict=False)), **options}
    axis, rank = given.pop("axis", None), args[0].ndim
    keep = given.pop("keepdims", False)
    if given or type(keep) is not bool:
        return args, options
    if isinstance(axis, int):
        axis = axis % rank if rank else axis
    elif isinstance(axis, tuple):
        axis = tuple(a % rank for a in axis)
    return args[:1], {"axis": axis, "keepdims": keep}


def record(
    environment: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]],
    xp: Any,
    values: Mapping[str, Any],
    recorder: Recorder,
    fixed: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Every operand by name, as nodes; None where the forward cannot be recorded.

    Args:
        environment: The forward of an operation.
        xp: The namespace of the framework.
        values: Arrays and numbers of one call.
        recorder: Where operations are noted.
        fixed: Parameters that the program is compiled for: counts and choices.
    """
    traced = {n: recorder.input(n, v) for n, v in values.items() if n not in fixed}
    try:
        found = environment(TracingNamespace(xp, recorder), {**traced, **fixed})
    except (Untraceable, TypeError, AttributeError) as error:
        if isinstance(error, GradcheckError):
            raise
        return None
    return dict(found)
