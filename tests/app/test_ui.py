"""The user interface of the web app, without a browser."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app needs gradio")

import gradio
from gradio_client import Client
from gradio_client.exceptions import AppError

from conjure import InputError
from conjure.app.controls import user_errors
from conjure.app.jobs import CancelledError
from conjure.app.limits import Limits
from conjure.app.service import Service
from conjure.app.ui import build, serve
from conjure.app.visitors import Visitors

SMALL = Limits(max_chars=8, samples=1, steps=1, max_texts=2)


def run_in_event_loop(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function within an event loop. Without one, Gradio creates some and does not close them."""

    async def call() -> Any:
        return function(*args, **kwargs)

    return asyncio.run(call())


def test_cancel_ends_all_computations_of_one_visitor():
    visitors = Visitors(9)
    with visitors.job("a") as first, visitors.job("a") as second, visitors.job("b") as other:
        visitors.cancel("a")
        for raise_if_cancelled in (first, second):
            with pytest.raises(CancelledError):
                raise_if_cancelled()
        other()
        with visitors.job("a") as third:  # the visitor can start again
            third()
    assert not visitors._flags  # nothing is kept for visitors who left


def test_the_interface_can_be_built_with_small_limits(service):
    run_in_event_loop(build, service, Visitors(1))


def test_errors_are_shown_as_one_line_without_markup(service):
    with pytest.raises(gradio.Error, match="&lt;b&gt;") as rejected, user_errors(service):
        raise InputError("the model '<b>' is not available")
    assert (rejected.value.title, rejected.value.print_exception) == ("Request rejected", False)
    with pytest.raises(gradio.Error) as cancelled, user_errors(service):
        raise CancelledError
    assert (cancelled.value.title, cancelled.value.print_exception) == ("Stopped", False)


def test_the_operator_sees_the_paths_of_an_error(tmp_path, capsys):
    model, runs = tmp_path / "my model", tmp_path / "runs"
    service = Service((str(model),), runs)
    with pytest.raises(gradio.Error) as rejected, user_errors(service):
        raise InputError(f"cannot read {model}/unet, {runs}")
    assert str(rejected.value) == "'cannot read my model/unet, the runs'"
    assert capsys.readouterr().err == f"cannot read {model}/unet, {runs}\n"


@pytest.fixture(scope="module")
def service():
    """A service whose cache contains the examples, which the app computes in a thread."""
    service = Service(limits=SMALL)
    service.compute_examples()
    return service


@pytest.fixture
def address(service, capsys):
    """The address of an app with a password."""
    try:
        yield run_in_event_loop(serve, service, user=("me", "secret"), wait=False)
    finally:
        gradio.close_all()
    assert "Conjure is running at http://127.0.0.1:" in capsys.readouterr().out


def read(address: str, cookie: str = "") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Cookie": cookie})) as response:
        return response.read()


def test_the_app_is_served_with_a_password(address):
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        read(f"{address}gradio_api/info")
    refused.value.close()
    login = urllib.request.Request(f"{address}login", data=b"username=me&password=secret")
    with urllib.request.urlopen(login) as response:
        cookie = "; ".join(value.partition(";")[0] for name, value in response.headers.items() if name.lower() == "set-cookie")
    assert b"Conjure" not in read(address)
    assert b"Conjure" in read(address, cookie)
    endpoints = json.loads(read(f"{address}gradio_api/info", cookie))["named_endpoints"]
    assert {"/compare", "/matrix", "/drift", "/run"} <= set(endpoints)


def test_an_occupied_port_is_reported(service, monkeypatch):
    def launch(*_: Any, **__: Any) -> None:
        raise OSError("Cannot find empty port in range: 80-80.")

    monkeypatch.setattr(gradio.Blocks, "launch", launch)

    def compute_examples(_: Service) -> None:
        raise AssertionError("a thread computes while the process ends")

    monkeypatch.setattr(Service, "compute_examples", compute_examples)
    with pytest.raises(InputError, match="cannot listen on 127.0.0.1, port 80: Cannot find empty port"):
        run_in_event_loop(serve, service, port=80, wait=False)


def test_addresses_behind_a_reverse_proxy(service):
    """The page loads everything from below the path that the proxy removes."""
    try:
        address = run_in_event_loop(serve, service, root_path="/below/conjure", wait=False)
        page = read(address).decode()
        assert f'"root":"{address}below/conjure"' in page.replace('": ', '":')
        assert "/compare" in json.loads(read(f"{address}gradio_api/info"))["named_endpoints"]
    finally:
        gradio.close_all()


@pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")  # of pandas, in the queue of Gradio
def test_a_program_can_send_requests(service):
    """The client of Gradio gets the numbers; arguments that are not given have their defaults."""
    try:
        client = Client(run_in_event_loop(serve, service, wait=False), verbose=False)
        _, _, numbers = client.predict(text="dog", lines="wolf\ncar", samples=1, steps=1, api_name="/nearest")
        rows = list(csv.DictReader(io.StringIO(numbers)))
        assert {row["text"] for row in rows} == {"wolf", "car"}
        assert all(float(row["distance"]) > 0 for row in rows)
        settings = {"samples": 1.0, "steps": 1.0, "seed": 3.0, "guidance": None}  # the link has what the page reads
        head, *_ = client.predict("dog", "cat", **settings, api_name="/compare")
        assert "a=dog&amp;b=cat&amp;model=default&amp;samples=1&amp;steps=1&amp;seed=3&amp;guidance=&quot;" in head.replace(
            '"', "&quot;"
        )
        with pytest.raises(AppError, match="it must be an integer from 1 to 1"):
            client.predict(text="dog", lines="wolf\ncar", samples=2, steps=1, api_name="/nearest")
        client.close()
    finally:
        gradio.close_all()
