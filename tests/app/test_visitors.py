"""The web app over HTTP: visitors who leave, fill the queue, upload files or send invalid values. No model is computed."""

from __future__ import annotations

import asyncio
import contextlib
import html
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app needs gradio")

import gradio
from fastapi import Request

from conjure.app import ui
from conjure.app.answers import Answer
from conjure.app.limits import Limits
from conjure.app.service import Service
from conjure.app.visitors import _address
from conjure.io.text import shorten

# Gradio's statistics of its queue use deprecated options of pandas
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*future.no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

MODEL_FOLDER = "secret-place/model-a"


class EndlessService(Service):
    """A service whose comparisons end only if the visitor leaves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.started: list[object] = []
        self.ended = threading.Semaphore(0)

    def compare(self, a, b, settings, words=False, replacements=None, progress=None) -> Iterator[Answer]:
        self.started.append(self.limits.validated_text(a))
        self._sampling(settings)
        try:
            while progress is not None:
                progress(1, 2)
                time.sleep(0.01)
        finally:
            self.ended.release()
        yield Answer("", "")

    def compute_examples(self) -> None:
        pass


@contextlib.contextmanager
def served(service: Service) -> Iterator[tuple[str, Any]]:
    """Serve an app, and yield its host with port, and its Gradio blocks."""
    built: list[Any] = []
    build = ui.build

    def remember(*arguments: Any) -> Any:
        built.append(build(*arguments))
        return built[0]

    async def serve() -> str:
        return ui.serve(service, wait=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ui, "build", remember)
        url = asyncio.run(serve())
    try:
        yield urllib.parse.urlsplit(url).netloc, built[0]
    finally:
        gradio.close_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("operator")
    (folder / MODEL_FOLDER).mkdir(parents=True)
    (folder / "runs" / "broken").mkdir(parents=True)
    (folder / "runs" / "broken" / "report.html").write_bytes(b"\xff\xfe\xff")
    return folder


@pytest.fixture(scope="module")
def app(folder):
    """An app for invalid requests, none of which starts a computation."""
    service = Service(("default", str(folder / MODEL_FOLDER)), folder / "runs", Limits(max_chars=50, samples=2, steps=3))
    service.compute_examples = lambda: None  # type: ignore[method-assign]
    with served(service) as (address, _):
        yield address


def request(address: str, method: str, path: str, body: bytes | str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, text


def join(address: str, *values: Any, name: str = "compare", **headers: str) -> tuple[int, Any]:
    status, text = request(address, "POST", f"/gradio_api/call/{name}", json.dumps({"data": values}), **headers)
    return status, json.loads(text)


def numbers_of(blocks: Any, *, is_queued: bool) -> list[int]:
    return [number for number, function in blocks.fns.items() if bool(function.queue) == is_queued]


def answer(address: str, *values: Any, name: str = "compare") -> str:
    """Return all that a visitor receives for a request."""
    status, response = join(address, *values, name=name)
    if status != 200:
        return str(response)
    return request(address, "GET", f"/gradio_api/call/{name}/{response['event_id']}")[1]


@contextlib.contextmanager
def listening(address: str, event_id: str) -> Iterator[None]:
    """Read the answers of a request until the end of the block, then disconnect."""
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", f"/gradio_api/call/compare/{event_id}")
    response = connection.getresponse()
    try:
        yield
    finally:
        response.close()
        connection.close()


def wait_until(condition) -> bool:
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


SETTINGS = ("cat", "default", 1, 1, 0, "", False, "")  # all values after the first text


def test_requests_of_visitors_who_left_are_dropped():
    service = EndlessService(limits=Limits(max_jobs_per_visitor=9))
    with served(service) as (address, blocks):
        (_, first), (_, second) = join(address, "first", *SETTINGS), join(address, "second", *SETTINGS)
        with listening(address, first["event_id"]):
            with listening(address, second["event_id"]):
                assert wait_until(lambda: service.started == ["first"])
                assert len(blocks._queue) == 1
            assert wait_until(lambda: len(blocks._queue) == 0)  # it waited, and its client disconnected
            assert not service.ended.acquire(blocking=False)
        assert service.ended.acquire(timeout=10)  # it was computed
        _, third = join(address, "third", *SETTINGS)
        with listening(address, third["event_id"]):
            assert wait_until(lambda: service.started == ["first", "third"])
        assert service.ended.acquire(timeout=10)


def test_requests_whose_answers_nobody_reads_are_dropped(monkeypatch):
    service = EndlessService(limits=Limits(max_jobs_per_visitor=2))
    with served(service) as (address, blocks):
        _, first = join(address, "first", *SETTINGS)
        with listening(address, first["event_id"]):
            assert wait_until(lambda: service.started == ["first"])
            assert join(address, "second", *SETTINGS)[0] == 200
            monkeypatch.setattr("conjure.app.visitors.CONNECT_TIMEOUT", 0.0)
            assert join(address, "third", *SETTINGS)[0] == 200  # in the place of the second, which waits without a client
            assert len(blocks._queue) == 1
        assert service.ended.acquire(timeout=10)
        assert wait_until(lambda: len(blocks._queue) == 0)
        assert wait_until(lambda: blocks._queue.get_active_worker_count() == 0)
        assert service.started == ["first"]  # the third was dropped at its start


def test_one_visitor_cannot_fill_the_queue():
    service = EndlessService(limits=Limits(max_jobs_per_visitor=2))
    with served(service) as (address, _):
        _, first = join(address, "first", *SETTINGS)
        with listening(address, first["event_id"]):
            assert join(address, "second", *SETTINGS)[0] == 200
            message = "you have 2 unfinished requests, the maximum; wait until one is answered"
            assert join(address, "third", *SETTINGS) == (429, {"detail": message})
            # a proxy on this machine reports the address of the visitor
            assert join(address, "other", *SETTINGS, **{"X-Forwarded-For": "2001:db8::1"})[0] == 200
            assert join(address, "other", *SETTINGS, **{"X-Forwarded-For": "2001:db8::2"})[0] == 200
            assert join(address, "other", *SETTINGS, **{"X-Forwarded-For": "2001:db8::3"})[0] == 429
            assert join(address, "other", *SETTINGS, **{"X-Forwarded-For": "2001:db8:0:1::"})[0] == 200
        assert service.ended.acquire(timeout=10)


FILE = {"path": "http://nowhere.invalid/file.txt", "meta": {"_type": "gradio.FileData"}}


def test_only_functions_without_computations_bypass_the_queue(capfd):
    service = Service(limits=Limits())
    service.compute_examples = lambda: None  # type: ignore[method-assign]
    with served(service) as (address, blocks):
        assert numbers_of(blocks, is_queued=True)
        direct = [number for number in numbers_of(blocks, is_queued=False) if blocks.fns[number].fn is not None]
        for number in [*blocks.fns, 999, -1, None, "0", True]:
            function = blocks.fns.get(number) if isinstance(number, int) else None
            for values in ([], [99], ["x"], [None], [1.5], [True]):
                body = json.dumps({"data": values, "fn_index": number, "session_hash": "a"})
                status, _ = request(address, "POST", "/gradio_api/run/anything", body)
                is_allowed = function is not None and number in direct and values == [] and not function.inputs
                assert (status == 200) == is_allowed, (number, values)
        examples = [number for number in direct if len(blocks.fns[number].inputs) == 1]
        assert examples
        for number in examples:
            body = json.dumps({"data": [0], "fn_index": number, "session_hash": "a"})
            assert request(address, "POST", "/gradio_api/run/predict", body)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_selection_without_a_row(capfd):
    service = Service(limits=Limits())
    service.compute_examples = lambda: None  # type: ignore[method-assign]
    with served(service) as (address, blocks):
        (number,) = (number for number, function in blocks.fns.items() if function.collects_event_data)
        events: list[Any] = [None, {}, "x", 5, [1], {"row_value": []}, {"index": 0, "value": 1, "row_value": [FILE]}]
        for event in events:
            body = json.dumps({"data": [], "fn_index": number, "event_data": event, "session_hash": "a"})
            status, text = request(address, "POST", "/gradio_api/queue/join", body)
            assert (status, json.loads(text)) == (400, {"detail": "the request has no selected row"})
    assert "Traceback" not in capfd.readouterr().err


UPLOAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="kept.txt"\r\n\r\nkept\r\n--x--\r\n'


@pytest.mark.parametrize(
    "path", ["upload", "upload/", "upload?upload_id=1", "process_recording", "component_server", "vibe-edit"]
)
def test_nothing_can_be_uploaded(app, tmp_path, monkeypatch, path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    content_type = {"Content-Type": "multipart/form-data; boundary=x"}
    assert request(app, "POST", f"/gradio_api/{path}", UPLOAD, **content_type) == (404, "this app has no such route")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd", "file/etc/passwd", "%66ile=/etc/passwd", "file=%0a", "proxy=https://example.org/",
        "deep_link?session_hash=a", "stream/a/b/1/playlist.m3u8", "run-history/buckets", "runs", "upload_progress?upload_id=1",
        "dev/reload",
    ],
)  # fmt: skip
def test_routes_that_the_app_does_not_need(app, method, path):
    assert request(app, method, f"/gradio_api/{path}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/monitoring",
        "/monitoring/summary",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/static/../../etc/passwd",
        "/assets/..%2f..%2fetc/passwd",
    ],
)
def test_pages_that_the_app_does_not_have(app, path):
    status, text = request(app, "GET", path)
    assert status >= 400
    assert "root:" not in text


def test_routes_show_names_instead_of_paths(app, folder):
    for path in ("/", "/config", "/info", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/startup-events"):
        status, text = request(app, "GET", path)
        assert status < 500
        assert str(folder) not in text
    assert "model-a" in request(app, "GET", "/config")[1]
    for model in ("nothing", str(folder / MODEL_FOLDER)):
        text = answer(app, "dog", "cat", model, 1, 1, 0, "", False, "")
        assert "is not available here; allowed are default, model-a" in text
    text = answer(app, "dog", "cat", "model-a", 1, 1, 0, "", False, "")  # the folder is empty
    assert "model-a" in text
    assert str(folder) not in text


LONG = "x" * 90_000
VALUES = {
    "a long text": LONG, "a list": [1, [2]], "an object": {"a": LONG}, "null": None, "true": True, "a number": 1.5,
    "infinity": float("inf"), "a surrogate": "\ud800",
}  # fmt: skip


def is_rejected(text: str) -> bool:
    """Return whether an answer rejects a value in one line: before it enters the queue, or after it."""
    return ("Request rejected" in text or "a value of the request" in text) and len(text) < 500


@pytest.mark.parametrize("name", VALUES)
def test_invalid_values_are_reported_in_one_line(app, capfd, name):
    value = VALUES[name]
    valid = ["dog", "cat", "default", 1, 1, 0, "", False, ""]
    for index in range(len(valid)):
        values = [*valid[:index], value, *valid[index + 1 :]]
        if (value is None and index >= 5) or (index, name) in ((6, "a number"), (7, "true")):  # valid values
            continue
        assert is_rejected(answer(app, *values))
    for values in ([value, *valid[2:7]], [f"dog\n{value}", "no model", *valid[3:7]]):
        assert is_rejected(answer(app, *values, name="matrix"))
    if value is not None:
        text = answer(app, value, None, name="run")
        assert "there is no run" in text or is_rejected(text)
    assert capfd.readouterr().err == ""


def test_a_surrogate_has_the_message_of_the_command_line(app):
    message = "is not valid Unicode; give it in UTF-8"
    assert message in answer(app, "\udc00 dog", "cat", "default", 1, 1, 0, "", False, "")
    assert message in answer(app, "dog\n\udc00 cat", "default", 1, 1, 0, "", name="matrix")


def test_a_run_that_cannot_be_read(app, folder):
    text = answer(app, "broken", None, name="run")
    assert "event: complete" in text  # it replaces the report of another run
    assert "the report of the run &#x27;broken&#x27; cannot be read" in text
    assert str(folder) not in text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/gradio_api/call/compare", '{"data": []}', 400),
        ("POST", "/gradio_api/call/compare", json.dumps({"data": [LONG[:30_000]] * 3}), 400),
        ("POST", "/gradio_api/call/nothing", '{"data": []}', 400),
        ("POST", "/gradio_api/call/v2/compare", '{"nothing": 1}', 404),
        ("POST", "/gradio_api/queue/join", '{"data": [], "fn_index": 999, "session_hash": "a"}', 400),
        ("POST", "/gradio_api/run/compare", '{"data": ["dog", "cat", "default", 1, 1, 0, "", false, ""]}', 400),
        ("POST", "/gradio_api/run/nothing", '{"data": []}', 400),
        ("POST", "/gradio_api/call/compare", b"\xff", 400),
        ("POST", "/gradio_api/call/compare", json.dumps({"data": ["x" * 10**6]}), 413),
    ],
)
def test_invalid_requests(app, capfd, method, path, body, status):
    answered, text = request(app, method, path, body)
    assert answered == status
    assert len(text) < 500
    log = capfd.readouterr().err
    assert log.count("\n") <= 1
    assert len(log) < 400
    assert "Traceback" not in log


def test_a_request_without_a_declared_length(app):
    connection = http.client.HTTPConnection(app, timeout=20)
    chunks = (b"x" * 50_000 for _ in range(20))
    connection.request("POST", "/gradio_api/call/compare", chunks, {"Content-Type": "application/json"}, encode_chunked=True)
    with contextlib.suppress(OSError):
        assert connection.getresponse().status == 413
    connection.close()


def test_a_stream_of_an_unknown_session(app, capfd):
    request(app, "GET", "/gradio_api/queue/data?session_hash=nobody")
    log = capfd.readouterr().err
    assert log.count("\n") <= 1
    assert len(log) < 400


@pytest.mark.parametrize("value", [FILE, [FILE], [[{"a": FILE}]]])
def test_files_that_a_request_names_are_not_read(app, tmp_path, monkeypatch, capfd, value):
    """Gradio would open a connection to the host, and copy the file into a folder of the server."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for path, body in (
        ("call/compare", {"data": ["dog", "cat", value, 1, 1, 0, "", False, ""]}),
        ("queue/join", {"data": [value, None], "fn_index": 34, "session_hash": "a"}),
        ("run/load_example", {"data": [value], "fn_index": 0}),
    ):
        status, text = request(app, "POST", f"/gradio_api/{path}", json.dumps(body))
        assert (status, json.loads(text)["detail"]) == (
            400, "a value of the request is a list or an object; texts, numbers, booleans and null are allowed"
        )  # fmt: skip
    assert list(tmp_path.rglob("*")) == []
    assert capfd.readouterr().err == ""


def test_long_sessions_are_refused(app):
    body = json.dumps({"data": [], "fn_index": 1, "session_hash": "x" * 101})
    assert request(app, "POST", "/gradio_api/queue/join", body)[0] == 400


def test_messages_do_not_tell_whether_a_value_is_a_path_of_the_operator(app, folder):
    for value in (str(folder / "runs"), str(folder / MODEL_FOLDER), str(Path.home()), "/srv/nothing"):
        for text in (
            answer(app, value, None, name="run"),
            answer(app, "dog", "cat", value, 1, 1, 0, "", False, ""),
            answer(app, "dog", "cat", "default", 1, 1, 0, value, False, ""),
        ):
            assert html.escape(repr(shorten(value))) in text


def test_one_address_is_written_in_many_ways():
    def address(host: str) -> str:
        return _address(Request({"type": "http", "client": (host, 1)}))

    for host in ("203.0.113.4", "::ffff:203.0.113.4", "203.0.113.4:5678", "[::ffff:203.0.113.4]:5678"):
        assert address(host) == "203.0.113.4"
    assert address("::ffff:203.0.113.5") != address("::ffff:203.0.113.4")
    assert address("2001:db8::1") == address("[2001:db8::2]:80") == address("[2001:db8::3]") == "2001:db8::/64"


def test_slow_requests_are_ended(app, monkeypatch):
    monkeypatch.setattr("conjure.app.routes.BODY_TIMEOUT", 0.2)
    connection = http.client.HTTPConnection(app, timeout=20)
    connection.putrequest("POST", "/gradio_api/call/compare")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"{")
    assert connection.getresponse().status == 408
    connection.close()


def test_the_address_of_the_page_does_not_come_from_a_header_of_gradio(app):
    text = request(app, "GET", "/", **{"X-Gradio-Server": "http://elsewhere.example"})[1]
    assert "elsewhere" not in text
