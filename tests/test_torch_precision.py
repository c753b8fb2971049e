"""While something is checked, torch multiplies float32 in float32; afterwards as the user had set it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from gradcheck.backends.torch_precision import full_precision  # noqa: E402

CUDNN, MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul
NEW = hasattr(MATMUL, "fp32_precision")


def shown():
    """All settings as they read; the older ones refuse to be read beside newer ones."""
    found = {}
    readers = {"products": torch.get_float32_matmul_precision, "cudnn": lambda: CUDNN.allow_tf32}
    for name, reader in readers.items():
        try:
            found[name] = reader()
        except RuntimeError:
            found[name] = "mixed"
    if NEW:
        found |= {"matmul": MATMUL.fp32_precision, "conv": CUDNN.conv.fp32_precision}
        found |= {"rnn": CUDNN.rnn.fp32_precision, "all": torch.backends.fp32_precision}
    return found


def reset():
    if NEW:
        torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    CUDNN.allow_tf32 = True
    if NEW:
        MATMUL.fp32_precision = "none"
        CUDNN.conv.fp32_precision = CUDNN.rnn.fp32_precision = "tf32"


@pytest.fixture(autouse=True)
def _as_it_was():
    before = shown()
    yield
    reset()
    assert shown() == before


def general():
    torch.backends.fp32_precision = "tf32"


SETTINGS = {
    "the defaults": lambda: None,
    "products in short": lambda: torch.set_float32_matmul_precision("high"),
    "cudnn in full": lambda: setattr(CUDNN, "allow_tf32", False),
    "newer, products": lambda: setattr(MATMUL, "fp32_precision", "tf32"),
    "newer, convolutions": lambda: setattr(CUDNN.conv, "fp32_precision", "ieee"),
    "newer, everything": general,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_full_inside_and_as_before_outside(name):
    if "newer" in name and not NEW:
        pytest.skip("this torch has the older settings alone")
    SETTINGS[name]()
    before = shown()
    with full_precision():
        assert_full(shown())
        with full_precision():
            assert_full(shown())
        assert_full(shown())
    assert shown() == before
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert shown() == before


def assert_full(found):
    assert found["products"] in ("highest", "mixed")
    assert found["cudnn"] in (False, "mixed")
    assert "tf32" not in {found.get(n) for n in ("matmul", "conv", "rnn")}
