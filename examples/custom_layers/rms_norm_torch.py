"""An RMSNorm as a `torch.autograd.Function`, right and with a forgotten sum; both are verified.

    python examples/custom_layers/rms_norm_torch.py

The mistake is the usual one of a parameter that was broadcast over the batch: the gradient of g keeps
the batch axis. torch's engine sums it in silence where it can, so that training works as long as only
shapes with a batch axis come by, and `torch.autograd.gradcheck` passes it.
"""

import torch  # noqa: TID253 - the layer is written in it

from gradcheck import number, real, verify_layer


class RMSNorm(torch.autograd.Function):
    """h = g x r with r = (mean x² + ε)^(-1/2) in each row."""

    @staticmethod
    def forward(ctx, x, g, eps):
        """The output; x, g and r are kept."""
        r = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, g, r)
        return g * x * r

    @staticmethod
    def backward(ctx, dh):
        """The gradients of x and g; eps is no tensor."""
        x, g, r = ctx.saved_tensors
        scaled = dh * g
        dx = r * scaled - x * r**3 * (scaled * x).mean(-1, keepdim=True)
        return dx, (dh * x * r).sum(0), None


class ForgottenSum(RMSNorm):
    """The same without the sum over the batch in the gradient of g."""

    @staticmethod
    def backward(ctx, dh):
        """The gradients of x and g; that of g has kept the batch axis."""
        x, g, r = ctx.saved_tensors
        scaled = dh * g
        dx = r * scaled - x * r**3 * (scaled * x).mean(-1, keepdim=True)
        return dx, dh * x * r, None


def forward(xp, x, g, *, eps):
    """What both compute."""
    return g * x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)


def verify(function):
    """The report of one of them."""
    return verify_layer(
        function.apply,
        of=forward,
        inputs={"x": real("m n"), "g": real("n")},
        params={"eps": number(1e-8, 1e-3)},
        oracles=["torch", "differences"],
    )


if __name__ == "__main__":
    print(verify(RMSNorm))
    print()
    print(verify(ForgottenSum))
