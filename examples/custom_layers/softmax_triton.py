"""A fused softmax in Triton, right and with a backward pass that sums over one block; both are verified.

    python examples/custom_layers/softmax_triton.py

The gradient of a row is a ⊙ (da - Σ_j da[j] a[j]). A row longer than a block needs a loop for that sum; who
leaves it out has a gradient that is right for every row of up to 32 entries, and a test of small arrays
passes it. Needs a CUDA device, and `triton`, which torch's own wheels for CUDA bring.
"""

import sys

import torch  # noqa: TID253 - the layer is written in it

try:
    import triton
    import triton.language as tl
except ImportError:
    sys.exit("this example needs triton, which comes with torch's wheels for CUDA")

from gradcheck import load, verify_layer

BLOCK = 32


@triton.jit
def forward_kernel(z, a, n, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """One row: its largest entry, the sum of its exponentials, its quotients, block after block."""
    start = tl.program_id(0).to(tl.int64) * n
    largest = tl.full((BLOCK,), float("-inf"), WIDE)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        entry = tl.load(z + start + column, mask=column < n, other=float("-inf"))
        largest = tl.maximum(largest, entry.to(WIDE))
    top = tl.max(largest, axis=0)
    sums = tl.zeros((BLOCK,), WIDE)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        entry = tl.load(z + start + column, mask=column < n, other=float("-inf"))
        sums += tl.exp(entry.to(WIDE) - top)
    total = tl.sum(sums, axis=0)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        entry = tl.load(z + start + column, mask=column < n, other=float("-inf"))
        tl.store(a + start + column, tl.exp(entry.to(WIDE) - top) / total, mask=column < n)


@triton.jit
def backward_kernel(a, da, dz, n, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """One row: Σ_j da[j] a[j] block after block, then the gradient."""
    start = tl.program_id(0).to(tl.int64) * n
    sums = tl.zeros((BLOCK,), WIDE)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        p = tl.load(a + start + column, mask=column < n, other=0.0).to(WIDE)
        v = tl.load(da + start + column, mask=column < n, other=0.0).to(WIDE)
        sums += v * p
    total = tl.sum(sums, axis=0)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        p = tl.load(a + start + column, mask=column < n, other=0.0).to(WIDE)
        v = tl.load(da + start + column, mask=column < n, other=0.0).to(WIDE)
        tl.store(dz + start + column, p * (v - total), mask=column < n)


@triton.jit
def one_block_kernel(a, da, dz, n, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The same, with the sum over the first block alone."""
    start = tl.program_id(0).to(tl.int64) * n
    column = tl.arange(0, BLOCK)
    p = tl.load(a + start + column, mask=column < n, other=0.0).to(WIDE)
    v = tl.load(da + start + column, mask=column < n, other=0.0).to(WIDE)
    total = tl.sum(v * p, axis=0)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        p = tl.load(a + start + column, mask=column < n, other=0.0).to(WIDE)
        v = tl.load(da + start + column, mask=column < n, other=0.0).to(WIDE)
        tl.store(dz + start + column, p * (v - total), mask=column < n)


def launch(kernel, *tensors):
    """One program a row; sums are taken in float32 at least."""
    rows, columns = tensors[0].shape
    wide = tl.float64 if tensors[0].dtype == torch.float64 else tl.float32
    if rows:
        kernel[(rows,)](*tensors, columns, BLOCK=BLOCK, WIDE=wide)


class Softmax(torch.autograd.Function):
    """a = softmax of each row of z."""

    kernel = backward_kernel

    @classmethod
    def forward(cls, ctx, z):
        """The probabilities, which the backward pass needs too."""
        z = z.contiguous()  # the kernels count entries in memory
        a = torch.empty_like(z)
        launch(forward_kernel, z, a)
        ctx.save_for_backward(a)
        return a

    @classmethod
    def backward(cls, ctx, da):
        """The gradient of z."""
        (a,) = ctx.saved_tensors
        dz = torch.empty_like(a)
        launch(cls.kernel, a, da.contiguous(), dz)
        return dz


class OneBlock(Softmax):
    """The same with the sum over the first 32 entries of a row."""

    kernel = one_block_kernel


def verify(function, dtypes=("float64", "float32")):
    """The report of one of them, on the GPU."""
    return verify_layer(
        function.apply, of=load("softmax"), devices=["cuda"], dtypes=dtypes, oracles=["torch"]
    )


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("this example needs a CUDA device, and torch sees none here")
    print(verify(Softmax))
    print()
    print(verify(OneBlock))
