"""float32 products at full precision on CUDA devices, whatever the process has set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 - this file is imported only when torch is asked for

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products, convolutions and recurrent layers of float32 without TF32, put back as they were.

    These settings are the process's. torch has two ways to them: an older one of one flag for products
    and one for cudnn, which may not be read once somebody used the newer one (`fp32_precision`).
    """
    with contextlib.ExitStack() as stack:
        # What is entered last is left first: old flags are put back before what they change in new ones.
        for knob in _knobs():
            stack.callback(setattr, knob, "fp32_precision", knob.fp32_precision)
        with contextlib.suppress(RuntimeError):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, before)
        with contextlib.suppress(RuntimeError):
            allowed = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", allowed)
        for knob in _knobs():
            if knob.fp32_precision == "tf32":
                knob.fp32_precision = "ieee"
        yield


def _knobs() -> list[Any]:
    """The newer settings; before torch 2.9 there are none."""
    cudnn = torch.backends.cudnn
    found = [torch.backends.cuda.matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)]
    return [knob for knob in found if hasattr(knob, "fp32_precision")]
