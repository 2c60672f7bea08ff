"""The user interface of the web app, without a browser."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio", reason="the app needs gradio")

import gradio

from conjure import InputError
from conjure.app.limits import Limits
from conjure.app.service import CancelledError, Service
from conjure.app.ui import CancellationRegistry, build, serve, user_errors

SMALL = Limits(max_chars=8, samples=1, steps=1, max_texts=2)


def test_cancel_ends_all_computations_of_one_visitor():
    registry = CancellationRegistry()
    cancelled = [registry.register("a"), registry.register("a")]
    raise_if_cancelled = registry.register("b")
    registry.cancel("a")
    for check in cancelled:
        with pytest.raises(CancelledError):
            check()
    raise_if_cancelled()
    registry.register("a")()  # the visitor can start again


def test_the_interface_can_be_built_with_small_limits():
    build(Service(limits=SMALL))


def test_errors_are_shown_as_one_line_without_markup():
    with pytest.raises(gradio.Error, match="&lt;b&gt;") as rejected, user_errors():
        raise InputError("the model '<b>' is not available")
    assert (rejected.value.title, rejected.value.print_exception) == ("Request rejected", False)
    with pytest.raises(gradio.Error) as cancelled, user_errors():
        raise CancelledError
    assert (cancelled.value.title, cancelled.value.print_exception) == ("Stopped", False)


@pytest.fixture
def address(capsys):
    """The address of an app with a password, which runs in a thread."""
    service = Service(limits=SMALL)
    service.compute_examples()  # so that the thread of the app finds them in the cache
    try:
        yield serve(service, user=("me", "secret"), wait=False)
    finally:
        gradio.close_all()
    assert "Conjure is running at http://127.0.0.1:" in capsys.readouterr().out


def test_the_app_is_served_with_a_password(address):
    with urllib.request.urlopen(address) as response:
        assert b"Conjure" in response.read()
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{address}gradio_api/info")
    refused.value.close()
    login = urllib.request.Request(f"{address}login", data=b"username=me&password=secret")
    with urllib.request.urlopen(login) as response:
        cookie = "; ".join(value.partition(";")[0] for name, value in response.headers.items() if name.lower() == "set-cookie")
    with urllib.request.urlopen(urllib.request.Request(f"{address}gradio_api/info", headers={"Cookie": cookie})) as response:
        assert {"/compare", "/matrix", "/run"} <= set(json.load(response)["named_endpoints"])


def test_an_occupied_port_is_reported():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        service = Service(limits=SMALL)
        service.compute_examples()
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve(service, port=port, wait=False)
