"""What every backend is: a framework that can run a forward, and most of them differentiate it.

A forward is written once, against `xp`, the documented list of names. `Functions` is that list as
one framework implements it; `Namespace` shows it to the forward, and nothing else; `Backend` joins
it with the framework's devices, its conversions and its own automatic differentiation.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.metadata
import re
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradcheck.backends.names import XP_NAMES
from gradcheck.backends.writing import generic
from gradcheck.errors import MissingBackend, ShapeError, UnsupportedOperation, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from gradcheck.backends.writing import Writing

    Forward = Callable[..., Any]

# The functions that the notation allows on an operand: `"exp(z)"`, `"step(x)"`.
OPERAND_FUNCTIONS = ("exp", "log", "sqrt", "sigmoid", "tanh", "erf", "abs", "sign", "step")

_DEVICE = re.compile(r"(cpu|cuda|gpu)(?::(\d+))?")


class UnknownNameError(UnsupportedOperation, AttributeError):
    """A forward uses a name that is not on the list; an AttributeError, so that `hasattr` works."""


class Namespace:
    """The `xp` of one framework, dtype and device: the documented names and nothing more."""

    def __init__(self, functions: Mapping[str, Any], path: str = "xp") -> None:
        self.__dict__.update(functions)
        self.__dict__["_path"] = path

    def __getattr__(self, name: str) -> Any:
        known = [key for key in self.__dict__ if not key.startswith("_")]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        message = (
            f"{self._path}.{name} is not in the documented list; {hint}"
            "see gradcheck.backends.names for all that a forward may use"
        )
        raise UnknownNameError(message)

    def __dir__(self) -> Iterable[str]:
        return sorted(key for key in self.__dict__ if not key.startswith("_"))

    def __repr__(self) -> str:
        return f"<namespace {self._path}>"


class Backend(ABC):
    """One framework: its namespace, its conversions, its derivative.

    Attributes:
        name: The word for it on the command line and in reports.
        package: The installed distribution, for its version and the pip command.
        differentiates: Whether it has automatic differentiation.
        dtypes: The floating point types that it can compute in.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    differentiates: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32", "float16", "bfloat16")

    def __init__(self) -> None:
        self._namespaces: dict[tuple[str, str], Namespace] = {}
        self._canonical: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is the framework's one backend; another process has its own."""
        from gradcheck.backends import get

        return get, (self.name,)

    # ---- devices and types

    def version(self) -> str:
        """The version of the installed framework."""
        return importlib.metadata.version(self.package)

    def devices(self) -> list[str]:
        """The devices found here, `"cpu"` first."""
        return ["cpu"]

    def find_device(self, text: str) -> str:
        """The canonical name of a device: `"gpu"` and `"cuda"` are `"cuda:0"`."""
        if text in self._canonical:
            return self._canonical[text]
        match = _DEVICE.fullmatch(text.strip().lower())
        if match is None:
            message = f"unknown device {text!r}: write cpu, cuda, cuda:1 or gpu"
            raise UsageError(message)
        kind, index = match.groups()
        device = "cpu" if kind == "cpu" else f"cuda:{int(index or 0)}"
        found = self.devices()
        if device not in found or (kind == "cpu" and index not in (None, "0")):
            message = f"{self.name} has no device {text!r} here; found: {', '.join(found)}"
            raise MissingBackend(message)
        self._canonical[text] = device
        return device

    def check_dtype(self, dtype: str) -> str:
        """The dtype itself, if the framework computes in it."""
        if dtype not in self.dtypes:
            near = difflib.get_close_matches(dtype, self.dtypes, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"{self.name} has no dtype {dtype!r}: it has {', '.join(self.dtypes)}{hint}"
            raise UsageError(message)
        return dtype

    # ---- a forward

    def namespace(self, dtype: str, device: str = "cpu") -> Namespace:
        """The `xp` with which a forward runs in a dtype on a device."""
        key = (self.check_dtype(dtype), self.find_device(device))
        if key not in self._namespaces:
            self._namespaces[key] = Namespace(self._functions(*key).table())
        return self._namespaces[key]

    @abstractmethod
    def _functions(self, dtype: str, device: str) -> Any:
        """The `Functions` of the framework."""

    @abstractmethod
    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """An array of the framework: floats in `dtype`, integers and booleans as such."""

    def bare_results(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with results as users know them, where the namespace wraps its arrays."""
        return function

    @abstractmethod
    def asarray_like(self, value: Any) -> Any:
        """The framework's own array as it is; anything else as one, in its own dtype."""

    @abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray:
        """The array's values on the host, in the same dtype (bfloat16 as float32, exactly)."""

    def device_of(self, array: Any) -> str:  # noqa: ARG002 - most frameworks live on the host
        """The canonical name of the device on which an array lies."""
        return "cpu"

    def dtype_of(self, array: Any) -> str:
        """The name of an array's dtype, such as `"float32"`."""
        return str(np.result_type(array) if np.isscalar(array) else array.dtype)

    def widths(self, dtype: str) -> contextlib.AbstractContextManager[Any]:  # noqa: ARG002
        """Keep a user's own arrays in their dtype while expressions are evaluated on them."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def scope(self, dtype: str) -> Iterator[None]:
        """Make a dtype possible here and now, at full precision, without changing the process."""
        self.check_dtype(dtype)
        with np.errstate(all="ignore"):
            yield

    def apply(
        self,
        fn: Forward,
        arrays: Sequence[Any],
        dtype: str,
        device: str = "cpu",
        *,
        key: Hashable | None = None,  # noqa: ARG002 - only a compiling framework needs it
    ) -> list[np.ndarray]:
        """The outputs of `fn(xp, *arrays)` as numpy arrays."""
        with self.scope(dtype):
            xp = self.namespace(dtype, device)
            # Copies: a forward that writes into its arguments must not reach the caller's.
            inputs = [self.asarray(np.array(array), dtype, device) for array in arrays]
            return [self._host(value, dtype) for value in outputs_of(fn(xp, *inputs))]

    @abstractmethod
    def derivative(
        self,
        fn: Forward,
        arrays: Sequence[Any],
        wrt: int,
        *,
        output: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
        key: Hashable | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """All the outputs, and the dense Jacobian of one by one argument.

        Args:
            fn: The forward, `fn(xp, *arrays)`, giving an array or a tuple of arrays.
            arrays: Its arguments.
            wrt: Which argument to differentiate by.
            output: Which output to differentiate.
            dtype: The dtype to compute in.
            device: The device to compute on.
            key: Names `fn` and whatever it closes over; a framework that compiles keeps what it
                compiled under this key and the shapes. Without one, nothing is kept.

        Returns:
            The outputs as numpy arrays, and the Jacobian of shape output + input.
        """

    def _host(self, value: Any, dtype: str) -> np.ndarray:
        """An output as a numpy array: floats in the dtype asked for, Python numbers too."""
        array = self.to_numpy(value)
        if array.dtype.kind != "f":
            return array
        return array if dtype == "bfloat16" else array.astype(dtype, copy=False)

    # ---- programs of array statements

    # Whether a program is traced and compiled by the framework itself.
    traces: ClassVar[bool] = False

    def writing(self, dtype: str, device: str) -> Writing:
        """How a program for this framework's arrays is written."""
        return generic(self.namespace(dtype, device))

    def can_write(self, *arrays: Any) -> bool:  # noqa: ARG002 - most frameworks refuse in any case
        """Whether a program may write into its own temporaries, with these arguments."""
        return False

    def jitted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function compiled by the framework, where it does that."""
        return function

    def lender(self, *arrays: Any) -> Backend | None:  # noqa: ARG002 - most write zeros as fast as NumPy
        """Whose program fills a large array that is mostly zeros; None where it is this framework's own."""
        return None

    def adopted(self, array: Any) -> Any:
        """An array of the lender as one of this framework, in the same memory."""
        raise NotImplementedError

    # ---- the evaluation of einsum terms on the user's own arrays

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """The contraction of arrays where they lie, along a cached path."""
        operands = self.lift(arrays)
        if len(operands) < self._path_from:
            return self._plain_einsum(equation, *operands)
        shapes = tuple(tuple(operand.shape) for operand in operands)
        return _contraction(equation, shapes)(*operands, backend=self._opt_einsum)

    # How many operands make a path worth its overhead, and opt_einsum's word for the framework.
    _path_from: ClassVar[int] = 3
    _opt_einsum: ClassVar[str] = "numpy"

    @abstractmethod
    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        """The framework's own einsum."""

    def lift(self, arrays: Sequence[Any]) -> list[Any]:
        """Python numbers and foreign arrays beside the framework's own, in the same dtype."""
        like = next((array for array in arrays if self.owns_float(array)), None)
        return [
            array if hasattr(array, "shape") else self.full((), array, like) for array in arrays
        ]

    def owns_float(self, array: Any) -> bool:
        """Whether this is a floating point array."""
        return hasattr(array, "dtype") and "float" in str(array.dtype)

    def function(self, name: str) -> Callable[[Any], Any]:
        """One of the functions that the notation allows on an operand."""
        if name not in OPERAND_FUNCTIONS:
            near = difflib.get_close_matches(name, OPERAND_FUNCTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"unknown function {name!r}: there are {', '.join(OPERAND_FUNCTIONS)}{hint}"
            raise UsageError(message)
        if name == "step":
            return lambda x: float(x > 0) if is_scalar(x) else self._step(x)
        function: Callable[[Any], Any] = getattr(self.namespace(self.dtypes[0], "cpu"), name)
        return function

    @abstractmethod
    def _step(self, x: Any) -> Any:
        """1 where x > 0, else 0, in the dtype of x."""

    def power(self, x: Any, exponent: Fraction | int) -> Any:
        """`x ** exponent`, with integer powers and square roots as exact as the framework's."""
        if is_scalar(x):
            return number_power(x, Fraction(exponent))
        exponent = Fraction(exponent)
        if exponent < 0:
            return 1 / self.power(x, -exponent)
        if exponent == 0:
            return self.full(tuple(x.shape), 1, x)
        if exponent.denominator == 1:
            return x if exponent == 1 else x ** int(exponent)
        return self.function("sqrt")(x) if exponent == Fraction(1, 2) else x ** float(exponent)

    @abstractmethod
    def full(self, shape: tuple[int, ...], value: float, like: Any = None) -> Any:
        """A constant array in the dtype and on the device of another (float64 without one)."""

    def zeros(self, shape: tuple[int, ...], like: Any) -> Any:
        """Zeros in the dtype and on the device of another array."""
        return self.full(tuple(shape), 0, like)

    @abstractmethod
    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as indicators along a new last axis, in the dtype and on the device of `like`."""

    def scale(self, x: Any, coefficient: float) -> Any:
        """The array times a number."""
        return x * coefficient

    def add_diagonal(
        self, out: Any, core: Any, letters_out: Sequence[str], letters_core: Sequence[str]
    ) -> Any:
        """Add `core` into the entries of `out` whose repeated letters are equal.

        `letters_out` such as `p q p q` means core[p, q] δ[p, p'] δ[q, q']; no identity matrix is
        ever built. `out` may be changed in place: use the array that comes back.
        """
        distinct = tuple(dict.fromkeys(letters_out))
        check_letters(out, core, letters_out, letters_core)
        axes = [list(letters_core).index(letter) for letter in distinct]
        core = self._transpose(core, axes)
        return self._add_diagonal(out, core, [distinct.index(letter) for letter in letters_out])

    @abstractmethod
    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """The axes of x in another order."""

    @abstractmethod
    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        """Add: axis i of `out` runs along axis `places[i]` of `core`."""


def is_scalar(value: Any) -> bool:
    """Whether this is a plain Python number (a NumPy scalar is an array: it has a dtype)."""
    return type(value) in (float, int, bool)


def number_power(x: float, exponent: Fraction) -> float:
    """A rational power of a Python number, with infinities where floats have them."""
    with np.errstate(all="ignore"):
        number = np.float64(x)
        size = abs(exponent)
        value = np.sqrt(number) if size == Fraction(1, 2) else number ** float(size)
        return float(1 / value if exponent < 0 else value)


def outputs_of(result: Any) -> tuple[Any, ...]:
    """What a forward gave, as a tuple of outputs."""
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def pick_output(results: tuple[Any, ...], output: int) -> Any:
    """The output that is to be differentiated."""
    if not 0 <= output < len(results):
        message = f"the forward gave {len(results)} output(s); there is no number {output}"
        raise UsageError(message)
    return results[output]


def check_differentiable(arrays: Sequence[Any], wrt: int) -> None:
    """Refuse to differentiate by integers, booleans, or an argument that is not there."""
    if not 0 <= wrt < len(arrays):
        message = f"the forward takes {len(arrays)} argument(s); there is no number {wrt}"
        raise UsageError(message)
    kind = np.asarray(arrays[wrt]).dtype.kind if np.isscalar(arrays[wrt]) else None
    dtype = str(getattr(arrays[wrt], "dtype", "float"))
    if kind == "b" or any(word in dtype for word in ("int", "bool")):
        message = f"argument {wrt} holds {dtype} values: only real numbers can be differentiated by"
        raise UsageError(message)


def check_letters(
    out: Any, core: Any, letters_out: Sequence[str], letters_core: Sequence[str]
) -> None:
    """Refuse letters that do not fit the arrays, naming the letter."""
    if sorted(set(letters_out)) != sorted(letters_core):
        message = (
            f"the letters of the core, {' '.join(letters_core)}, must be those of the output, "
            f"{' '.join(letters_out)}, each once"
        )
        raise ShapeError(message)
    sizes = dict(zip(letters_core, core.shape, strict=True))
    for letter, size in zip(letters_out, out.shape, strict=True):
        if sizes[letter] != size:
            message = (
                f"letter {letter!r} has size {sizes[letter]} in the core, {size} in the output"
            )
            raise ShapeError(message)


@functools.lru_cache(maxsize=4096)
def _contraction(equation: str, shapes: tuple[tuple[int, ...], ...]) -> Callable[..., Any]:
    """A compiled contraction: the search for a good order is done once for these shapes."""
    import opt_einsum

    expression: Callable[..., Any] = opt_einsum.contract_expression(equation, *shapes)
    return expression


def check_names(table: Mapping[str, Any]) -> None:
    """Every namespace offers exactly the documented list."""
    if set(table) != XP_NAMES:
        message = f"the namespace and the documented list differ in {set(table) ^ XP_NAMES}"
        raise UnsupportedOperation(message)
