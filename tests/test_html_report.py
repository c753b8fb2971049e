"""The HTML report in a real headless browser, at the widths of a desk and of a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_report_formats import EVIL, check, every_kind, evil

from gradcheck import verify
from gradcheck.reports.formats import FORMATS
from gradcheck.reports.model import Report

pytest.importorskip("jinja2")
SLIPS = Path(__file__).parent.parent / "examples" / "seed_slips.py"
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def failing():
    return verify(str(SLIPS), oracles=["symbolic", "differences"], profile="quick")


@pytest.fixture(scope="module")
def open_page(tmp_path_factory):
    """A function that opens a report in the browser and gives the page and what it complained of."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed here")
    folder = tmp_path_factory.mktemp("pages")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])

        def opened(report, width, scheme="light"):
            path = folder / "report.html"
            path.write_text(FORMATS["html"](report), encoding="utf-8")
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.on("request", lambda request: said.append(request.url))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.goto(path.as_uri())
            return page, [text for text in said if text != path.as_uri()]

        yield opened
        browser.close()


def test_it_stands_alone():
    page = FORMATS["html"](evil())
    assert "<script" not in page
    assert 'src="' not in page
    assert "http://" not in page.replace("http://www.w3.org/1998/Math/MathML", "")


def test_what_users_wrote_is_escaped():
    assert "<script>" not in FORMATS["html"](evil())


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_asks_for_nothing(open_page, failing, width, scheme):
    page, said = open_page(failing, width, scheme)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#refuted article").count() == 3
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_refuted_comes_first_and_then_what_is_not_decided(open_page, failing, width):
    page, _ = open_page(every_kind(), width)
    titles = page.locator("h2").all_inner_texts()
    assert titles == ["Refuted", "Not covered", "Incomplete", "Claims and oracles"]
    tops = page.locator("h2").evaluate_all("all => all.map(e => e.getBoundingClientRect().top)")
    assert tops == sorted(tops)
    page.close()
    page, _ = open_page(failing, width)
    assert page.locator("#refuted article").first.bounding_box()["y"] < 900  # on the first screen
    edit = page.locator("#refuted .edit").first
    assert edit.locator("del").inner_text() == "- a[p,s] a[p,s] δ[p,r]"
    assert edit.locator("ins").inner_text() == "- a[p,q] a[p,s] δ[p,r]"
    page.close()


def test_what_did_not_conclude_beside_support_is_told_before_the_matrix(open_page):
    report = Report([check(), check(oracle="jax", verdict="skipped", reason="no device")])
    page, _ = open_page(report, 390)
    assert page.locator("h2").all_inner_texts() == ["Not concluded", "Claims and oracles"]
    assert "skipped by jax (cpu float64): softmax, z: no device" in page.inner_text("body")
    page.close()


def test_the_counterexample_the_formula_and_the_heat_map_are_seen(open_page, failing):
    page, _ = open_page(failing, 1280)
    rule = page.locator("article", has_text="softmax_rule").first
    assert rule.locator("math").first.is_visible()
    assert rule.locator("svg rect").count() == 36  # (2 × 3)² entries
    assert "To reproduce" in rule.inner_text()
    shares = rule.locator("svg rect").evaluate_all(
        "cells => cells.map(c => getComputedStyle(c).fill)"
    )
    assert len(set(shares)) > 1  # right on the diagonal, wrong beside it
    page.close()


def test_dark_and_light_differ(open_page, failing):
    found = []
    for scheme in ("light", "dark"):
        page, _ = open_page(failing, 800, scheme)
        found.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(set(found)) == 2


def test_a_hostile_report_runs_nothing_and_is_read_as_written(open_page):
    page, said = open_page(evil(), 390)
    assert said == []
    assert '<script>alert("x")</script>' in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_an_empty_report_is_a_page_that_says_so(open_page):
    page, _ = open_page(Report(), 390)
    assert "nothing was verified" in page.inner_text("body")
    assert EVIL not in page.inner_text("body")
    page.close()
