"""Which checks a run consists of, and which of them are required."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.arguments import names as words
from gradcheck.arguments import natural
from gradcheck.errors import MissingBackend, UsageError
from gradcheck.oracles import EXACT, ORACLES, Oracle, check_names, framework_of, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck.library import Target
    from gradcheck.operation import Claim, Operation

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Planned:
    """One check to be run: a claim, an oracle, a device and a dtype, by address.

    Attributes:
        address: `file.py::name` or a chain's text; empty where the operation lives only in memory.
        claim: The name of the spec or chain.
        label: The claim's input (preceded by the output, for a residual).
        oracle: The oracle, or None where the claim is missing.
        device: Where the oracle runs.
        dtype: The precision.
        skip: Why it cannot run here; empty if it can.
        operation: The operation itself, where it has no address.
        kind: The word for what makes the claim, where the operation did not travel along.
        payload: An operation that lives only in memory, as bytes for another process.
    """

    address: str
    claim: str
    label: str
    oracle: Oracle | None
    device: str
    dtype: str
    profile: str = "standard"
    seed: int = 0
    required: bool = False
    skip: str = ""
    operation: Operation | None = field(default=None, compare=False, repr=False)
    kind: str = ""
    payload: bytes | None = field(default=None, compare=False, repr=False)
    data: dict[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """What tells it from the other checks of its operation: `z[torch-cpu-float64]`."""
        if self.oracle is None:
            return f"{self.label}[missing]"
        oracle = self.oracle.name
        if oracle == "native":
            oracle = f"native:{self.oracle.framework}"
        return f"{self.label}[{oracle}-{self.device}-{self.dtype}]"

    @property
    def id(self) -> str:
        """A short name: `specs/softmax.py::softmax::z[torch-cpu-float64]`."""
        return f"{self.address or self.claim}::{self.key}"


@dataclass(frozen=True)
class Request:
    """What was asked for, checked: oracles, devices, dtypes, inputs."""

    oracles: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    wrt: tuple[str, ...]
    required: tuple[str, ...]
    profile: str
    seed: int
    explicit: bool
    data: dict[str, Any] | None = None


def request(
    *,
    oracles: Sequence[str] | str | None,
    devices: Sequence[str] | str,
    dtypes: Sequence[str] | str,
    wrt: Sequence[str] | str | None,
    require: Sequence[str] | str,
    profile: str,
    seed: int,
    data: dict[str, Any] | None,
) -> Request:
    """The arguments of `verify` as tuples of known names.

    Raises:
        UsageError: For an unknown oracle, dtype or device, suggesting the nearest.
    """
    required = check_names(words(require, "require"))
    named = check_names(words(oracles, "oracles")) if oracles is not None else ORACLES
    named = tuple(dict.fromkeys([*named, *required]))
    kinds = words(dtypes, "dtypes")
    check_dtypes(kinds)
    return Request(
        oracles=named,
        devices=canonical_devices(words(devices, "devices")),
        dtypes=kinds,
        wrt=words(wrt, "wrt"),
        required=required,
        profile=profile,
        seed=natural(seed, "seed"),
        explicit=oracles is not None,
        data=data,
    )


def check_dtypes(names: Sequence[str]) -> None:
    """Whether all of these are dtypes.

    Raises:
        UsageError: For one that is not.
    """
    for dtype in names:
        if dtype not in DTYPES:
            rules = " (float16 and bfloat16 are for opaque rules)" if "float16" in dtype else ""
            raise UsageError(f"unknown dtype {dtype!r}; known are {', '.join(DTYPES)}{rules}")


def check_devices(names: Sequence[str]) -> None:
    """Whether all of these could be devices; none is looked for.

    Raises:
        UsageError: For one that could not.
    """
    for name in names:
        if name != "all":
            _canonical(name)


def canonical_devices(names: tuple[str, ...]) -> tuple[str, ...]:
    """The devices by their canonical names; `all` is what the frameworks find.

    Raises:
        UsageError: Where none is named, or one that no framework could have.
    """
    if not names:
        raise UsageError("no device was named; write cpu, cuda, cuda:1 or all")
    found = ["cpu"]
    if "all" in names:
        for framework in ("torch", "jax", "tensorflow"):
            if framework in backends.installed():
                found += [d for d in backends.get(framework).devices() if d not in found]
        return tuple(found)
    return tuple(dict.fromkeys(_canonical(n) for n in names))


def _canonical(name: str) -> str:
    """`cuda:0` for `cuda` and `gpu`; a name that no framework could have is an error."""
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "gpu") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}; write cpu, cuda, cuda:1, gpu or all")
    return "cpu" if kind == "cpu" else f"cuda:{index or 0}"


def plan(targets: Sequence[Target], wanted: Request) -> list[Planned]:
    """The checks of a run, claim by claim, so that oracles of one claim share its examples.

    Raises:
        UsageError: Where an input was named that no target has.
    """
    checks = [check for target in targets for check in _of_target(target, wanted)]
    if wanted.wrt and targets:
        labels = {c.label for t in targets for c in t.operation.claims()}
        for name in wanted.wrt:
            if name not in labels:
                known = ", ".join(sorted(labels)) or "none"
                raise UsageError(
                    f"nothing is claimed with respect to {name!r}; claimed are: {known}"
                )
    return checks


def _of_target(target: Target, wanted: Request) -> Iterator[Planned]:
    for claim in target.operation.claims():
        if wanted.wrt and claim.label not in wanted.wrt:
            continue
        if claim.form == "missing":
            yield _planned(target, claim, None, "—", "—", wanted, "")
            continue
        for name in (n for n in wanted.oracles if n in EXACT):
            yield _planned(
                target, claim, Oracle(name, framework_of(name)), "cpu", "exact", wanted, ""
            )
        for dtype in wanted.dtypes:
            for oracle, device, skip in _oracles(target.operation, claim, wanted):
                yield _planned(target, claim, oracle, device, dtype, wanted, skip)


def _planned(
    target: Target,
    claim: Claim,
    oracle: Oracle | None,
    device: str,
    dtype: str,
    wanted: Request,
    skip: str,
) -> Planned:
    return Planned(
        address=target.address,
        claim=target.name,
        label=claim.label,
        oracle=oracle,
        device=device,
        dtype=dtype,
        profile=wanted.profile,
        seed=wanted.seed,
        required=oracle is not None and oracle.name in wanted.required,
        skip=skip,
        operation=target.operation,
        data=wanted.data,
    )


def _oracles(
    operation: Operation, claim: Claim, wanted: Request
) -> Iterator[tuple[Oracle, str, str]]:
    """Each oracle on each device where it can run, with the reason where it cannot."""
    absent = missing(wanted.oracles)
    for name in (n for n in wanted.oracles if n not in EXACT):
        if name in absent:
            if wanted.explicit or name in wanted.required:
                yield Oracle(name, framework_of(name)), wanted.devices[0], how_to_install(name)
            continue
        if name == "native":
            here = backends.installed()
            # A framework's own function gives the result, not the residuals.
            for framework in operation.native if claim.output == operation.result else ():
                if framework in here:
                    yield from _on_devices(Oracle(name, framework), wanted)
            continue
        yield from _on_devices(Oracle(name, framework_of(name)), wanted)


def _on_devices(oracle: Oracle, wanted: Request) -> Iterator[tuple[Oracle, str, str]]:
    for device in wanted.devices:
        if device == "cpu":  # every framework has one, and need not be imported to plan
            yield oracle, device, ""
            continue
        if oracle.framework in ("numpy", "autograd"):
            continue
        if device == "cpu":  # there is always one: nothing is imported to find it
            yield oracle, "cpu", ""
            continue
        try:
            yield oracle, backends.get(oracle.framework).find_device(device), ""
        except MissingBackend as error:
            yield oracle, device, str(error)


def how_to_install(oracle: str) -> str:
    """The line that names a missing oracle and how to get it."""
    return f'{oracle} is not installed: pip install "gradcheck[{framework_of(oracle)}]"'
