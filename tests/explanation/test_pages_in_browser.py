"""The HTML pages of a comparison and of a matrix, in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

import conjure

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=window.stolen=1> & a rather long text that needs more than one line"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("the browser tests need chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def open_page(browser: Any, path: Any, width: int) -> Any:
    """Open a file, and check that the page has neither errors nor a horizontal scroll bar."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"file://{path}")
    page.wait_for_load_state()
    assert not errors
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.stolen") is None
    return page


@pytest.mark.filterwarnings("ignore::conjure.TextTruncationWarning")
@pytest.mark.parametrize("width", [1280, 390, 312])  # the last one is the frame of the app on a phone
def test_a_comparison(browser, default_process, tmp_path, width):
    process = default_process.set(steps=3)
    conjure.explain(process, HOSTILE, "a whale", samples=2, words=True).save(tmp_path / "page.html")
    page = open_page(browser, tmp_path / "page.html", width)
    controls, tiles = (page.locator(name).first.bounding_box() for name in (".controls", ".tiles"))
    assert tiles["width"] == pytest.approx(controls["width"], abs=1)
    ticks = page.locator("#steps svg text[text-anchor=end]").all_text_contents()
    assert ticks[0] == "0"
    assert 2 <= len(ticks) <= 6
    assert page.locator("#steps rect").count() == 3
    words = len(HOSTILE.split()) + 2
    assert page.locator("#words rect").count() == words
    assert "squared norm of noise" in page.locator("#words .axis").inner_text()
    for svg in page.locator("svg").all():
        assert svg.bounding_box()["x"] + svg.bounding_box()["width"] <= width
    # Bars and their ticks have the same scale
    heights = page.evaluate("[...document.querySelectorAll('#steps rect')].map(bar => +bar.getAttribute('height'))")
    per_step = page.evaluate("data.per_step")
    assert heights[1] / heights[2] == pytest.approx(per_step[1] / per_step[2], rel=1e-3)
    grid = page.evaluate("[...document.querySelectorAll('#steps .grid')].map(line => +line.getAttribute('y1'))")
    assert heights[1] / (grid[0] - grid[1]) == pytest.approx(per_step[1] / float(ticks[1]), rel=1e-3)
    page.locator("#steps rect").first.click()
    assert "1 of 3" in page.locator("output[for=step]").inner_text()
    page.locator("#heat").fill("0")
    assert page.evaluate("getComputedStyle(document.querySelector('.heat')).opacity") == "0"
    assert not page.locator("details table").first.is_visible()
    assert page.locator("details:not(.glossary)").count() == 2
    page.close()


@pytest.mark.filterwarnings("ignore::conjure.TextTruncationWarning")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_matrix(browser, default_process, tmp_path, width):
    matrix = conjure.matrix(default_process.set(steps=2), [HOSTILE, "a whale", "a shark"], samples=2)
    matrix.save(tmp_path / "page.html")
    page = open_page(browser, tmp_path / "page.html", width)
    first, second = (matrix.texts[i] for i in matrix.order[:2])
    page.locator(".cell").nth(1).hover()
    shown = page.locator(".readout").inner_text()
    assert f"“{first}” and “{second}”: " in shown
    assert "± " in shown
    assert "95% CI" in shown
    page.locator(".cell").nth(1).click()
    page.keyboard.press("ArrowLeft")
    assert "the same text" in page.locator(".readout").inner_text()
    numbers = page.locator(".cell").all_text_contents()
    decimals = {len(text.partition(".")[2]) for text in numbers if text != "0"}  # 0 on the diagonal is exact
    assert len(decimals) == 1
    assert "<img" in page.locator("tbody th").all_inner_texts()[list(matrix.order).index(0)]
    page.close()
