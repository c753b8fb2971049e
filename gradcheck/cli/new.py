"""`gradcheck new`: a small spec to start from."""

from __future__ import annotations

import keyword
from pathlib import Path

import click

from gradcheck.errors import UsageError

# The spec file that `new` writes; NAME stands for the spec's name.
TEMPLATE = '''\
"""y[p,q] = x[p,q]², entry by entry. Write your operation, and then how its derivative comes about.

Of one number, dy/dx = 2 x. An entry of y depends on the entry of x at the same place and on no
other, which is what the two Kronecker deltas say:

    ∂y[p,q]/∂x[r,s] = 2 x[p,q] δ[p,r] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, real


# The operation, written once against `xp`, which stands for NumPy, autograd, JAX or torch.
def forward(xp, x):
    return xp.square(x)


NAME = Spec(
    forward,
    # Where each input lives. m and n are axes: names of sizes, which the search chooses.
    inputs={"x": real("m n")},
    # The output's name and shape; its name may be used in the derivatives, as "y" or "y**2".
    output={"y": "m n"},
    # One derivative for each input: first the letters of the output (p, q), then those of the
    # input (r, s), in the order of their axes. A letter that is summed is left out after "->".
    jacobian={
        "x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta),
    },
    # A framework's own implementation is one more witness that forward means what you think:
    # native={"torch": lambda x: x.square()},
    source="where this derivation comes from: a paper, a book, a notebook",
)
'''


@click.command(short_help="Write a small spec to start from.")
@click.argument("name")
@click.option(
    "--folder",
    metavar="DIR",
    default=Path(),
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the file.  [default: the working folder]",
)
def new(name: str, folder: Path) -> None:
    """Write NAME.py, a small spec that verifies, to be changed into your own."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        message = f"{name!r} cannot name a spec; write a Python name, such as my_softmax"
        raise UsageError(message)
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.replace("NAME", name))
    except FileExistsError:
        message = f"{path} is already there and is left as it is; choose another name or --folder"
        raise UsageError(message) from None
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise UsageError(message) from None
    from gradcheck.reports.naming import shell_word

    click.echo(f"wrote {path}\nverify it with: gradcheck verify {shell_word(str(path))}")
