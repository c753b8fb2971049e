"""Derivations: what is printed, that each step is proved, and that a wrong one is noticed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import gradcheck
from gradcheck import Spec, constant, delta, derive, einsum, load, ones, positive, real, size
from gradcheck.cli import main
from gradcheck.derivation.rules import steps
from gradcheck.errors import SpecError, UsageError
from gradcheck.library import resolve

GALLERY = Path(__file__).parent.parent / "examples" / "specs"
CLASSIFIER = "weighted_sum >> softmax >> cross_entropy"
NO_PDFLATEX = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed"
)


def test_classifier_as_it_is_printed():
    text = str(derive(CLASSIFIER, wrt="w"))
    assert text.splitlines()[0] == f"{CLASSIFIER}: ∂L/∂w"
    for line in (
        "  ∂L/∂a[p,q] = −a^(-1)[p,q] y[p,q] / m                 cross_entropy",
        "  ∂z[r,s]/∂w[t,u] = x[r,t] δ[s,u]                      weighted_sum",
        "  ∂L/∂w[t,u] = Σ_pqrs ∂L/∂a[p,q] ∂a[p,q]/∂z[r,s] ∂z[r,s]/∂w[t,u]",
        "  ∂L/∂w[t,u] = Σ_rs ∂L/∂z[r,s] ∂z[r,s]/∂w[t,u]             chain rule",
        "  Vectorised: ∂L/∂z = (a − y)/m    shape (m, o)",
        "  Vectorised: ∂L/∂w = xᵀ(a − y)/m    shape (n, o)",
        "  each of the 9 steps is proved equal to the one before, at every size",
    ):
        assert line in text.splitlines(), line


def test_steps_and_reasons_of_the_classifier():
    derivation = derive(CLASSIFIER, wrt="z")
    assert [(s.rule, s.line.text()) for s in derivation.steps] == [
        ("substitute", "−Σ_pq a^(-1)[p,q] y[p,q] a[p,q] δ[p,r] (δ[q,s] − a[p,s]) / m"),
        ("powers", "−Σ_pq y[p,q] δ[p,r] (δ[q,s] − a[p,s]) / m"),
        ("delta", "−Σ_q y[r,q] (δ[q,s] − a[r,s]) / m"),
        ("multiply out", "−Σ_q y[r,q] δ[q,s] / m + Σ_q y[r,q] a[r,s] / m"),
        ("delta", "−y[r,s] / m + Σ_q y[r,q] a[r,s] / m"),
        ("relation", "−y[r,s] / m + a[r,s] / m"),
        ("group", "(a[r,s] − y[r,s]) / m"),
    ]
    reasons = [s.reason for s in derivation.steps]
    assert reasons[1] == "the powers of a cancel, wherever a ≠ 0"
    assert reasons[2] == "Σ_p with δ[p,r] leaves p = r"
    assert reasons[5] == "since Σ_q y[r,q] = 1: each row of y is a probability distribution"
    assert all(s.proof.ok for s in derivation.steps)
    assert str(derivation["z"]) == "(a[r,s] − y[r,s]) / m"
    assert derivation.section("z").conditions == ["a ≠ 0", "o ≥ 1"]


def test_all_inputs_by_default():
    derivation = derive(CLASSIFIER)
    found = {s.variable: s.matrix for s in derivation.sections}
    assert found == {
        "z": "(a − y)/m",
        "x": "(a − y)wᵀ/m",
        "w": "xᵀ(a − y)/m",
        "b": "1ᵀ(a − y)/m",
    }
    assert derivation.ok
    assert all(
        p.words.startswith("for all m ≥ 1, n ≥ 1, o ≥ 1") for p in derivation.proofs.values()
    )


def test_a_spec_gives_its_vjp():
    derivation = derive(load("softmax"))
    assert "L is any scalar that depends on a, and v[p,q] = ∂L/∂a[p,q]" in str(derivation)
    assert derivation.section("z").matrix == "a ⊙ (v − (v ⊙ a)1)"
    assert derivation.steps[-1].line.text() == "a[r,s] (v[r,s] − Σ_p v[r,p] a[r,p])"


def test_a_closed_form_is_compared_with_the_claim():
    derivation = derive(load("softmax_cross_entropy"))
    assert derivation.proofs["z"].words.endswith("it is what softmax_cross_entropy claims")
    wrong = Spec(
        load("softmax") >> load("cross_entropy"),
        jacobian={"z": (einsum("pq->pq", "a") + einsum("pq->pq", "y")) / size("m")},
        name="wrong",
    )
    found = derive(wrong)
    assert not found.ok
    assert all(s.proof.ok for s in found.steps)
    assert (
        "∂L/∂z is NOT PROVED to be the derivative of the forward: wrong claims something else"
        in str(found)
    )


def test_two_paths_are_added():
    z = load("weighted_sum")("x", "w", "b")
    chain = load("add")(z, load("sigmoid")(z))
    derivation = derive(chain, wrt=["x"])
    assert derivation.ok
    assert len(derivation.paths["x"]) == 2
    assert derivation.section("z").matrix == "v + v ⊙ s ⊙ (1 − s)"
    text = str(derivation)
    assert "= Σ_pq v[p,q] ∂s_2[p,q]/∂z[u,y] + Σ_rt ∂L/∂s[r,t] ∂s[r,t]/∂z[u,y]" in text, text


@pytest.mark.parametrize(
    "target",
    [t for t in resolve(["specs", str(GALLERY)]) if t.name != "inverse"],
    ids=lambda t: t.name,
)
def test_every_step_of_every_spec_is_proved(target):
    derivation = derive(target.operation)
    bad = [(s.reason, s.proof.words) for s in derivation.steps if not s.proof.ok]
    assert not bad
    assert derivation.ok, derivation.proofs
    assert "$" in derivation.markdown()


def test_what_the_symbolic_oracle_cannot_follow_is_said():
    result = CliRunner().invoke(main, ["derive", str(GALLERY / "inverse.py")])
    assert result.exit_code == 3
    assert "NOT PROVED" in result.output
    assert "xp.linalg is not one index expression" in result.output


def test_a_wrong_jacobian_is_noticed():
    """Each step is right; that the last line is the forward's derivative is not proved."""

    def forward(xp, z):
        return xp.sum(z * z)

    wrong = Spec(
        forward, inputs={"z": real("m")}, output={"f": ""}, jacobian={"z": 3 * einsum("p->p", "z")}
    )
    derivation = derive(wrong)
    assert not derivation.ok
    assert "NOT PROVED" in str(derivation)


def test_a_wrong_step_is_noticed(monkeypatch):
    from gradcheck.derivation import deriving

    def careless(line):
        for found in steps(line):
            groups = found.line.groups[:1] if found.rule == "multiply out" else found.line.groups
            yield type(found)(
                type(found.line)(groups, found.line.output, found.line.axes, found.line.relations),
                found.rule,
                found.reason,
            )

    monkeypatch.setattr(deriving, "steps", careless)
    derivation = derive(CLASSIFIER, wrt="z")
    bad = [s for s in derivation.steps if not s.proof.ok]
    assert bad[0].rule == "multiply out"
    assert "first − second" in bad[0].proof.words
    assert "multiply out (NOT PROVED)" in str(derivation)
    assert not derivation.ok


# ---------------------------------------------------------------- errors that teach


def test_unknown_variable():
    with pytest.raises(UsageError, match=r"has no variable 'q'; it has x, w, b, y, z, a, L|it has"):
        derive(CLASSIFIER, wrt="q")
    with pytest.raises(UsageError, match=r"y is .*, a constant: no derivative with respect to it"):
        derive(CLASSIFIER, wrt="y")
    with pytest.raises(
        UsageError, match=r"L is the result itself; derive with respect to one of x"
    ):
        derive(CLASSIFIER, wrt="L")


def test_missing_derivative():
    def forward(xp, z):
        return xp.exp(z)

    silent = Spec(forward, inputs={"z": real("m n")}, output={"e": "m n"}, name="silent")
    with pytest.raises(SpecError, match=r"silent claims no derivative that leads to 'z'"):
        derive(silent)


def test_a_file_of_several_specs_names_them():
    with pytest.raises(
        UsageError, match=r"holds 2 specs; derive takes one of them: perceptron, tied"
    ):
        derive(str(GALLERY / "perceptron.py"))


# ---------------------------------------------------------------- odd but legal specs


def sum_of_both(_xp, x, y):
    return x + 0 * y


DEAF = Spec(
    sum_of_both, name="deaf", inputs={"x": real("n"), "y": real("n")}, output={"h": "n"},
    jacobian={"x": einsum("pq->pq", delta), "y": 0 * einsum("pq->pq", delta)},
)  # fmt: skip


def product(xp, h, y):
    return xp.sum(h * y)


PRODUCT = Spec(
    product, name="product", inputs={"h": real("n"), "y": real("n")}, output={"f": ""},
    jacobian={"h": einsum("p->p", "y"), "y": einsum("p->p", "h")},
)  # fmt: skip


def test_a_derivative_that_is_zero():
    derivation = derive(DEAF)
    assert derivation.ok
    assert derivation.section("y").line.text() == "0"
    assert derivation.section("y").matrix == "0"
    assert "Vectorised: ∂L/∂y = 0    shape (n)" in str(derivation)


def test_one_path_of_two_that_is_zero():
    derivation = derive(PRODUCT(DEAF("x", "y"), "y"), wrt="y")
    assert derivation.ok
    assert [s.line.text() for s in derivation.steps] == ["h[q]"]


def gap(_xp, s, x, t):
    return s * (x - t)


def over(xp, h, t):
    return xp.sum(h) / t


def test_a_letter_that_is_summed_and_stands_nowhere():
    """Σ_p (x[p] − t) / t is Σ_p x[p] / t − n."""
    given = constant(positive(""))
    first = Spec(
        gap, name="gap", inputs={"s": real(""), "x": constant(real("n")), "t": given},
        output={"h": "n"}, jacobian={"s": einsum("p->p", "x") - einsum(",p->p", "t", ones)},
    )  # fmt: skip
    second = Spec(
        over, name="over", inputs={"h": real("n"), "t": given}, output={"L": ""},
        jacobian={"h": einsum(",p->p", "t**-1", ones)},
    )  # fmt: skip
    derivation = derive(second(first("s", "x", "t"), "t"), wrt="s")
    assert derivation.ok
    assert [s.line.text() for s in derivation.steps] == [
        "Σ_p t^(-1) (x[p] − t)",
        "Σ_p t^(-1) x[p] − Σ_p t^(-1) t",
        "Σ_p t^(-1) x[p] − Σ_p 1",
        "Σ_p t^(-1) x[p] − n",
    ]
    assert derivation.section("s").matrix == "1ᵀx/t − n"


def test_a_zero_beside_a_scalar_result():
    def forward(xp, x, y):
        return xp.sum(x) + 0 * xp.sum(y)

    spec = Spec(
        forward, name="zero", inputs={"x": real("n"), "y": real("n")}, output={"f": ""},
        jacobian={"x": einsum("r->r", ones), "y": 0 * einsum("r->r", ones)},
    )  # fmt: skip
    assert derive(spec, wrt="y").section("y").matrix == "0"
    assert derive(spec, wrt="y").steps == ()


def test_a_derivative_is_not_said_to_be_itself():
    """The chain rule over a single link of a scalar is ∂L/∂a = ∂L/∂a."""
    assert "Chain rule" not in str(derive("cross_entropy"))
    assert "Chain rule" not in derive("cross_entropy").latex()
    assert "Chain rule for z" in str(derive("softmax >> cross_entropy"))


def test_an_input_that_has_the_name_of_the_loss():
    def forward(_xp, L, x):
        return L * x

    spec = Spec(
        forward, name="named_as_the_loss", inputs={"L": real("n"), "x": real("n")},
        output={"h": "n"},
        jacobian={
            "L": einsum("p,pq->pq", "x", delta), "x": einsum("p,pq->pq", "L", delta),
        },
    )  # fmt: skip
    derivation = derive(spec, wrt="L")
    assert "loss is any scalar that depends on h" in str(derivation)
    assert "∂loss/∂L[q] = Σ_p v[p] ∂h[p]/∂L[q]" in str(derivation)
    assert r"\mathrm{loss}" in derivation.latex()


def test_leading_axes_are_said_to_be_left_out():
    text = str(derive(f"{GALLERY}/linear.py"))
    assert "... stands for leading axes: all of this is for one slice" in text
    assert "leading axes: all" not in str(derive("softmax"))


def test_a_form_for_terms_apart():
    """What is left of common factors has three letters; the terms by themselves have two."""
    found = {s.variable: s.matrix for s in derive(f"{GALLERY}/batch_norm.py").sections}
    assert found["x"] == (
        "v ⊙ gᵀ ⊙ rᵀ − 1(gᵀ ⊙ rᵀ ⊙ (1ᵀv))/m − (normal ⊙ gᵀ ⊙ rᵀ ⊙ (1ᵀ(v ⊙ normal)))/m"
    )


# ---------------------------------------------------------------- the command line and the formats


def test_command():
    result = CliRunner().invoke(main, ["derive", CLASSIFIER, "--wrt", "w,b"])
    assert result.exit_code == 0
    assert result.output == f"{derive(CLASSIFIER, wrt=['w', 'b'])}\n"
    usage = CliRunner().invoke(main, ["derive", CLASSIFIER, "--wrt", "q"])
    assert usage.exit_code == 2
    assert "has no variable 'q'" in usage.output


def test_markdown_is_for_notebooks():
    derivation = derive(CLASSIFIER, wrt="w")
    shown = CliRunner().invoke(main, ["derive", CLASSIFIER, "--wrt", "w", "--format", "markdown"])
    assert shown.output == derivation.markdown() + "\n"
    assert derivation._repr_markdown_() == derivation.markdown()
    assert shown.output.count("$$") == 8
    assert r"\frac{1}{m} \mathbf{x}^{\top} \left( \mathbf{a} - \mathbf{y} \right)" in shown.output
    assert derivation._repr_latex_() in derivation.latex()
    assert "steps" in repr(derivation)


def test_words_between_formulas_have_their_mathematics_typeset():
    shown = derive(CLASSIFIER, wrt="w").markdown()
    assert r"$L: \text{scalar}$" in shown
    assert r"wherever $a \neq 0$, $o \geq 1$." in shown
    assert (
        r"$\partial L/\partial w$ is the derivative of the forward: proved, for all $m \geq 1$"
        in shown
    )
    assert r"\sum_{pqrs} \frac" in shown
    assert "&& \\\\" not in shown


@NO_PDFLATEX
@pytest.mark.parametrize(
    "target",
    [
        CLASSIFIER,
        "softmax",
        f"{GALLERY}/perceptron.py::tied_perceptron",
        f"{GALLERY}/rms_norm.py",
        f"{GALLERY}/attention.py::attention_graph",
    ],
)
def test_latex_compiles(tmp_path, target):
    file = tmp_path / "derivation.tex"
    file.write_text(derive(target).latex(), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", file.name]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:]
    log = (tmp_path / "derivation.log").read_text(encoding="utf-8", errors="replace")
    assert "Overfull \\hbox" not in log
    assert "Missing character" not in log


@NO_PDFLATEX
def test_latex_of_names_that_are_not_latin(tmp_path):
    def forward(xp, angle, width):
        return xp.sum(angle * width)

    spec = Spec(
        forward, name="été", inputs={"θ": real("n"), "Α_σ": real("#n")}, output={"f": ""},
        jacobian={"θ": einsum("r,r->r", "Α_σ", ones)},
    )  # fmt: skip
    text = derive(spec, wrt="θ").latex()
    assert text.isascii()
    assert "?" not in text
    assert r"$\ensuremath{\theta}: n$" in text
    assert r"\mathrm{A\_\ensuremath{\sigma}}" in text
    assert r"\#n" in text
    (tmp_path / "d.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:]


def test_the_function_is_public_though_a_room_has_a_similar_name():
    assert gradcheck.derive is derive
