"""The web app: held to its limits, showing texts as texts, and working in a real browser from the click to the picture."""

from __future__ import annotations

import contextlib
import html
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app needs gradio")

from conjure import InputError
from conjure.app import Answer, Limits, Service, StoppedError, _notice, _Stops, build

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium")
HOSTILE = '<img src=x onerror="window.stolen=1"> <script>window.stolen=2</script> ${window.stolen=3} {{7*7}} \' 🐅 \u202egnp'


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    for name in ("first", "second <b>"):
        (runs / name).mkdir()
        (runs / name / "report.html").write_text(f"<!doctype html><h1>Run {html.escape(name)}</h1>")
    (runs / "unfinished").mkdir()
    secret = tmp_path_factory.mktemp("elsewhere")
    (secret / "report.html").write_text("secret")
    (runs / "link").symlink_to(secret)
    return Service(("default",), runs, Limits(length=120, texts=4, samples=3, steps=6))


def test_comparison_comes_step_by_step(service):
    found = list(service.compare("dog", "cat", "default", 2, 2, 0))
    assert ["1 sample so far" in one.head for one in found] == [True, True, False, False]
    assert "2 samples so far" in found[2].head
    assert [one.body.count("<img") for one in found] == [2, 2, 2, 0]
    assert "iframe" in found[-1].body
    assert list(service.compare("dog", "cat", "default", 2, 2, 0)) == found[-1:]  # done already


def test_what_is_kept_has_a_bound(service, monkeypatch):
    monkeypatch.setattr("conjure.app.KEPT", 1000)
    answer = Answer("", "x" * 400)
    small = Service()
    for number in range(5):
        small._keep((number,), answer)
    assert small._kept((0,)) is None
    assert small._kept((3,)) == answer
    small._keep((5,), answer)
    assert small._kept((3,)) == answer  # looked at since


def test_texts_that_do_not_count_whole_are_told(service, monkeypatch):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", _notice)
        *_, last = service.compare("cat " + "very long " * 11, "<🐅>", "default", 1, 1, 0)
        assert "1 symbols that this model&#x27;s encoder does not know" in last.head
        assert "<🐅>" not in last.head


def test_stopped_computing_ends(service):
    """What the progress raises ends it, and the next is not held up."""

    def stop(done: int, whole: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        list(service.compare("one", "two", "default", 3, 6, 0, stop))
    with pytest.raises(StoppedError):
        service.matrix("one\ntwo", "default", 3, 6, 0, stop)
    assert len(list(service.compare("one", "two", "default", 1, 1, 0))) == 2


def test_a_visitor_stops_all_that_he_runs():
    visitor: Any = SimpleNamespace(session_hash="a")
    another: Any = SimpleNamespace(session_hash="b")
    stops = _Stops()
    checks = [stops.begin(visitor), stops.begin(visitor)]
    other = stops.begin(another)
    stops.stop(visitor)
    for check in checks:
        with pytest.raises(StoppedError):
            check()
    other()
    stops.begin(visitor)()  # and may begin again


def test_busy_is_told(service, monkeypatch):
    monkeypatch.setattr("conjure.app.PATIENCE", 0.01)
    running = service.compare("three", "four", "default", 1, 6, 0)
    next(running)
    with pytest.raises(InputError, match="busy"):
        list(service.compare("five", "six", "default", 1, 1, 0))
    running.close()
    list(service.compare("five", "six", "default", 1, 1, 0))


def test_limits_below_the_usual_settings():
    small = Service(limits=Limits(length=8, samples=1, steps=1, texts=2))
    build(small)
    small.prepare()  # what does not fit is left out
    assert len(small._done) == 1


@pytest.mark.filterwarnings("ignore::conjure.TextCutWarning")
def test_texts_stay_texts(service):
    compared = list(service.compare(HOSTILE, "cat", "default", 1, 1, 0))
    matrix = service.matrix(f"{HOSTILE}\ncat", "default", 1, 1, 0)
    for answer in (*compared, matrix):
        tags = set(re.findall(r"<(\w+)", answer.head + answer.body))
        assert tags <= {"p", "figure", "figcaption", "img", "iframe"}
        assert 'onerror="' not in answer.body
        assert "\u202e" not in answer.head + answer.body


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("", "cat", "default", 1, 1, 0), "empty"),
        (("x" * 121, "cat", "default", 1, 1, 0), "121 characters; allowed are 120"),
        (("dog", None, "default", 1, 1, 0), "empty"),
        (("dog", "cat", "/etc", 1, 1, 0), "not offered"),
        (("dog", "cat", "default", 4, 1, 0), "samples is '4'"),
        (("dog", "cat", "default", 1.5, 1, 0), "samples is '1.5'"),
        (("dog", "cat", "default", 1, 7, 0), "steps is '7'"),
        (("dog", "cat", "default", 1, 1, -1), "seed is '-1'"),
        (("dog", "cat", "default", True, 1, 0), "samples is 'True'"),
        (("dog", "cat", "default", 1, "2", 0), "steps is '2'"),
        (("dog", "cat", "default", 1, [2], 0), "steps is '[2]'"),
        (("dog", "cat", ["default"], 1, 2, 0), "not offered"),
        (("dog", "cat", "default", float("inf"), 2, 0), "samples is 'inf'"),
    ],
)
def test_limits(service, arguments, told):
    with pytest.raises(InputError, match=re.escape(told)):
        next(service.compare(*arguments))


@pytest.mark.parametrize(
    ("lines", "told"),
    [("a\nb\nc\nd\ne", "5 texts"), ("a", "at least two"), ("a\na", "twice"), (None, "one a line"), ("a\n" * 10**5, "at most")],
)
def test_limits_of_the_matrix(service, lines, told):
    with pytest.raises(InputError, match=told):
        service.matrix(lines, "default", 1, 1, 0)


def test_runs_are_those_of_the_folder(service):
    assert service.finished() == ["first", "second <b>"]
    assert "Run first" in service.report("first")
    for name in ("link", "..", "../first", "/etc", "unfinished", "", "first/../second <b>"):
        with pytest.raises(InputError, match="no run"):
            service.report(name)
    with pytest.raises(InputError, match="none yet"):
        Service().report("first")


def free_port() -> int:
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(*options: str, command: tuple[str, ...] = ("-m", "conjure", "app"), **environment: str):
    port = free_port()
    place = ("--port", str(port)) if command[0] == "-m" else ()
    process = subprocess.Popen(
        [sys.executable, *command, *place, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port)} | environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if "listens at" in line:
                break
        else:
            pytest.fail(f"the app did not start: {told}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("the browser tests need chromium: apt-get install chromium")
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=flags.split())
        yield running
        running.close()


def test_in_a_browser(browser, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.html").write_text("<h1>the report</h1>")
    with served("--runs", str(tmp_path), "--length", "150") as address:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(60_000)
        asked, problems = set[str](), list[str]()
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        page.on("pageerror", lambda error: problems.append(str(error)))

        # a link to settings, then the keyboard alone; the grid comes before the whole
        page.goto(f"{address}?a=dog&b=animal&samples=2&steps=4&seed=7&model=/etc/passwd")
        page.wait_for_function("document.querySelector('#first textarea, #first input')?.value === 'dog'")
        page.focus("#second textarea, #second input")
        page.keyboard.press("Enter")
        page.wait_for_selector("#grid img")
        frame = page.wait_for_selector("#grid iframe").content_frame()
        assert "2 samples of 4 steps" in frame.text_content("body")
        assert frame.evaluate("document.querySelectorAll('.tile').length") == 8
        page.wait_for_function("document.querySelector('#grid iframe').style.height")
        for wide in (1200, 400):  # neither cut nor with bars of its own
            page.set_viewport_size({"width": wide, "height": 900})
            page.wait_for_timeout(500)
            high, shown, broad, across = frame.evaluate(
                "[document.documentElement.scrollHeight, innerHeight, document.documentElement.scrollWidth, innerWidth]"
            )
            assert (high, broad) == (shown, across)
        page.set_viewport_size({"width": 1200, "height": 900})
        before = frame.evaluate("document.querySelector('.tile > div').style.backgroundPosition")
        frame.focus("#step")
        page.keyboard.press("ArrowRight")
        assert frame.evaluate("document.querySelector('.tile > div').style.backgroundPosition") != before
        assert "4 of 4" in frame.text_content("output[for=step]")
        link = page.get_attribute("#number a", "href")
        assert "a=dog&b=animal&model=default&samples=2&steps=4&seed=7" in link

        # what a text says is never markup
        page.fill("#first textarea, #first input", HOSTILE)
        page.click("#go")
        page.wait_for_function("document.querySelector('#grid iframe')?.srcdoc.includes('stolen')")
        frame = page.query_selector("#grid iframe").content_frame()
        frame.wait_for_selector("h2")
        assert "<script>window.stolen=2</script> ${window.stolen=3} {{7*7}}" in frame.text_content("h1")
        for place in (page, frame):
            assert place.evaluate("window.stolen") is None

        page.fill("#second textarea, #second input", "")
        page.click("#go")
        page.wait_for_selector("text=a text is empty; give two texts")

        page.fill("#second textarea, #second input", "x" * 151)  # what is pasted is not cut in silence
        page.click("#go")
        page.wait_for_selector("text=a text has 151 characters; allowed are 150")

        page.click("#examples tbody tr >> nth=1")
        page.wait_for_function("document.querySelector('#grid iframe')?.srcdoc.includes('“dog” and “animal”')")
        assert page.input_value("#second textarea, #second input") == "animal"

        page.get_by_role("tab", name="Matrix").click()
        page.fill("#words textarea", "dog\npuppy\nwhale")
        page.click("#draw")
        page.wait_for_selector("#heat img")
        assert "dog,0.0," in page.input_value("#csv textarea")

        page.get_by_role("tab", name="Runs").click()
        page.click("#run input")
        page.get_by_role("option", name="one").click()
        report = page.wait_for_selector("#report iframe").content_frame()
        assert report.text_content("h1") == "the report"

        phone = browser.new_page(viewport={"width": 380, "height": 780}, color_scheme="dark")
        phone.goto(address)
        phone.wait_for_selector("#go")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 380
        shutil.rmtree(tmp_path / "one")
        phone.reload()
        phone.get_by_role("tab", name="Runs").click()
        phone.wait_for_selector("text=conjure bench --out FOLDER/NAME")
        assert asked == {address.split("/")[2]}  # nothing is fetched from elsewhere
        assert problems == []


def test_stop_in_a_browser(browser):
    """What a visitor stops gives way at once to what he asks for next, though it would have run for hours."""
    with served("--samples", "10000") as address:
        page = browser.new_page()
        page.set_default_timeout(60_000)

        page.goto(address)
        page.get_by_role("tab", name="Matrix").click()
        page.get_by_role("button", name="Settings").locator("visible=true").click()
        page.get_by_label("number input for Samples k").locator("visible=true").fill("10000")
        page.click("#draw")
        page.wait_for_selector("text=denoising")
        page.get_by_role("button", name="Stop").locator("visible=true").click()
        page.get_by_role("tab", name="Compare").click()
        page.fill("#first textarea, #first input", "lake")
        page.fill("#second textarea, #second input", "hill")
        page.click("#go")
        frame = page.wait_for_selector("#grid iframe").content_frame()
        assert "“lake” and “hill”" in frame.text_content("body")


def test_password(browser):
    with served("--user", "me", CONJURE_PASSWORD="secret") as address:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address}gradio_api/info")
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        for password, seen in (("wrong", "text=Incorrect"), ("secret", "#go")):
            page.get_by_label("username").fill("me")
            page.get_by_label("password").fill(password)
            page.get_by_role("button", name="Login").click()
            page.wait_for_selector(seen)


def test_space_runs_as_it_is():
    with served(command=("space/app.py",)) as address:
        assert b"Conjure" in urllib.request.urlopen(address).read()
    head = (ROOT / "space" / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in head
    assert "app_file: app.py" in head
