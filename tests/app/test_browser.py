"""The web app in a real browser, from the click to the image, and as its own process."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the app needs gradio")

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
HOSTILE = '<img src=x onerror="window.stolen=1"> <script>window.stolen=2</script> ${window.stolen=3} {{7*7}} \' 🐅 \u202egnp'

pytestmark = pytest.mark.slow


def free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def served(*options: str, command: tuple[str, ...] = ("-m", "conjure", "app"), **environment: str):
    """Serve the app in a new process and yield its address."""
    port = free_port()
    port_option = ("--port", str(port)) if command[0] == "-m" else ()
    process = subprocess.Popen(
        [sys.executable, *command, *port_option, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port)} | environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        output = ""
        for line in process.stdout:
            output += line
            if "is running at http" in line:
                break
        else:
            pytest.fail(f"the app did not start: {output}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("the browser tests need chromium: apt-get install chromium")
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags.split())
        yield chromium
        chromium.close()


class StrippingProxy(http.server.BaseHTTPRequestHandler):
    """A reverse proxy that offers a server below the path /below/conjure, which it removes, as nginx does."""

    port = 0  # of the server

    def do_GET(self) -> None:
        self.close_connection = True
        if not self.path.startswith("/below/conjure/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError):  # when either side ends
            connection.request(self.command, self.path.removeprefix("/below/conjure"), body or None, dict(self.headers))
            response = connection.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            while part := response.read1(65_536):
                self.wfile.write(part)
                self.wfile.flush()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *_: object) -> None:
        """Print nothing."""


def test_below_a_path_of_a_reverse_proxy(browser):
    with served("--root-path", "/below/conjure/") as address:
        StrippingProxy.port = int(address.rstrip("/").rpartition(":")[2])
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StrippingProxy) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            page = browser.new_page()
            page.set_default_timeout(90_000)
            paths = set[str]()
            page.on("request", lambda request: paths.add(urllib.parse.urlsplit(request.url).path))
            page.goto(f"http://127.0.0.1:{proxy.server_port}/below/conjure/?a=dog&b=animal&samples=1&steps=2")
            frame = page.wait_for_selector("#grid iframe").content_frame()  # a link opens the result
            assert "“dog” and “animal”" in frame.text_content("h1")
            assert {path for path in paths if path.startswith("/") and not path.startswith("/below/conjure/")} <= {"/favicon.ico"}
            page.close()
            proxy.shutdown()


def test_all_tabs(browser, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.html").write_text("<h1>the report</h1>")
    with served("--runs", str(tmp_path), "--max-chars", "150") as address:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(240_000)
        requested_hosts, errors = set[str](), list[str]()
        page.on("request", lambda request: requested_hosts.add(request.url.split("/")[2]))
        page.on("pageerror", lambda error: errors.append(str(error)))

        # a link with settings opens the result; then only the keyboard; the grid is shown before the complete answer
        page.goto(f"{address}?a=dog&b=animal&samples=2&steps=4&seed=7&guidance=4&model=/etc/passwd")
        frame = page.wait_for_selector("#grid iframe").content_frame()
        assert "guidance 4" in frame.text_content("body")
        assert page.input_value("#first textarea, #first input") == "dog"
        page.fill("#second textarea, #second input", "cat")
        page.press("#second textarea, #second input", "Enter")
        page.wait_for_selector("#grid img")
        frame = page.wait_for_selector("#grid iframe").content_frame()
        assert "2 samples of 4 steps" in frame.text_content("body")
        assert frame.evaluate("document.querySelectorAll('.tile').length") == 8
        page.wait_for_function("document.querySelector('#grid iframe').style.height")
        for width in (1200, 400):  # neither clipped nor with scroll bars in the iframe
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(500)
            scroll_height, inner_height, scroll_width, inner_width = frame.evaluate(
                "[document.documentElement.scrollHeight, innerHeight, document.documentElement.scrollWidth, innerWidth]"
            )
            assert (scroll_height, scroll_width) == (inner_height, inner_width)
        page.set_viewport_size({"width": 1200, "height": 900})
        position = "document.querySelector('.tile > div').style.backgroundPosition"
        first_step = frame.evaluate(position)
        frame.focus("#step")
        page.keyboard.press("ArrowRight")
        assert frame.evaluate(position) != first_step
        assert "4 of 4" in frame.text_content("output[for=step]")
        link = page.get_attribute("#number a[href^='?']", "href")
        assert "a=dog&b=cat&model=default&samples=2&steps=4&seed=7&guidance=4" in link
        assert not page.locator("button:text-is('Stop')").is_visible()
        for click, name, start in (
            ("#number a.save-page", "comparison.html", b"<!doctype html>"),
            ("#number a[download]", "comparison.csv", b"timestep,"),
            ("#figure a[download]", "comparison.png", b"\x89PNG"),
        ):
            if "figure" in click:
                page.click("#draw-figure")
            with page.expect_download() as download:
                page.click(click)
            assert download.value.suggested_filename == name
            assert Path(download.value.path()).read_bytes().lower().startswith(start.lower())

        # a text is never markup
        page.fill("#first textarea, #first input", HOSTILE)
        page.click("#go")
        page.wait_for_function("document.querySelector('#grid iframe')?.srcdoc.includes('stolen')")
        frame = page.query_selector("#grid iframe").content_frame()
        frame.wait_for_selector("h2")
        assert "<script>window.stolen=2</script> ${window.stolen=3} {{7*7}}" in frame.text_content("h1")
        for context in (page, frame):
            assert context.evaluate("window.stolen") is None

        page.fill("#second textarea, #second input", "")
        page.click("#go")
        page.wait_for_selector("text=a text is empty; enter a text")
        assert page.query_selector("#grid iframe") is None  # the result of other texts does not remain
        page.wait_for_selector("#go:enabled")
        assert not page.locator("button:text-is('Stop')").is_visible()

        page.fill("#second textarea, #second input", "x" * 151)  # pasted text is rejected, and not truncated without a message
        page.click("#go")
        page.wait_for_selector("text=a text has 151 characters; at most 150 are allowed")

        page.wait_for_selector("#go:enabled")
        page.click("#examples tbody tr >> nth=1")
        page.wait_for_function("document.querySelector('#grid iframe')?.srcdoc.includes('“dog” and “animal”')")
        assert page.input_value("#second textarea, #second input") == "animal"

        page.get_by_role("tab", name="Matrix").click()
        page.wait_for_function("document.querySelector('#words textarea')?.value.includes('sea lion')")
        page.wait_for_timeout(500)  # a tab is built when it is first opened, and may set the text of its fields once more
        page.fill("#words textarea", "dog\npuppy\nwhale")
        page.press("#words textarea", "Tab")
        page.click("#draw")
        frame = page.wait_for_selector("#heat iframe").content_frame()
        frame.wait_for_selector("table")
        with page.expect_download() as download:
            page.click("#matrix-head a[download$=csv]")
        assert "dog,0.0," in Path(download.value.path()).read_text()

        page.get_by_role("tab", name="Nearest").click()
        page.click("#rank")
        page.wait_for_selector("#ranking iframe").content_frame().wait_for_selector("td:text('puppy')")

        page.get_by_role("tab", name="Drift").click()
        page.wait_for_function("document.querySelector('#drift-texts textarea')?.value.includes('\\n')")
        page.wait_for_timeout(500)
        page.fill("#drift-texts textarea", "dog\na red apple")
        page.press("#drift-texts textarea", "Tab")
        guidance = "#drift-guidance textarea, #drift-guidance input"
        page.fill(guidance, "")  # blank fields of B are those of A
        page.press(guidance, "Tab")
        page.click("#drift-go")
        page.wait_for_selector("text=change at least one setting of B")
        page.fill(guidance, "2")
        page.press(guidance, "Tab")
        page.click("#drift-go")
        frame = page.wait_for_selector("#drift-result iframe").content_frame()
        frame.wait_for_selector("img")
        assert "mean over 2 texts" in frame.text_content(".headline")
        assert "Final images from the same noise" in frame.text_content("body")
        with page.expect_download() as download:
            page.click("#drift-head a[download]")
        assert Path(download.value.path()).read_text().startswith("text,")

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
        phone.locator(".overflow-menu > button").click()  # tabs that do not fit are in a menu
        phone.locator(".overflow-dropdown button", has_text="Runs").click()
        phone.wait_for_selector("text=conjure bench --out FOLDER/NAME")
        assert requested_hosts == {address.split("/")[2]}  # nothing is downloaded from other servers
        assert errors == []


@pytest.mark.parametrize(("tab", "button"), [("Matrix", "#draw"), ("Drift", "#drift-go")])
def test_stop(browser, tab, button):
    """A stopped computation, which would take hours, ends immediately, and the next request is answered."""
    with served("--samples", "10000") as address:
        page = browser.new_page()
        page.set_default_timeout(240_000)

        page.goto(address)
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("button", name="Settings").locator("visible=true").click()
        page.get_by_label("number input for Samples k").locator("visible=true").fill("10000")
        page.click(button)
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
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{address}gradio_api/info")
        refused.value.close()
        page = browser.new_page()
        page.set_default_timeout(240_000)
        page.goto(address)
        for password, selector in (("wrong", "text=Incorrect"), ("secret", "#go")):
            page.get_by_label("username").fill("me")
            page.get_by_label("password").fill(password)
            page.get_by_role("button", name="Login").click()
            page.wait_for_selector(selector)


def test_the_space_serves_the_app():
    with served(command=("space/app.py",)) as address, urllib.request.urlopen(address) as response:
        assert b"Conjure" in response.read()


def test_metadata_of_the_space():
    front_matter = (ROOT / "space" / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front_matter
    assert "app_file: app.py" in front_matter
