"""The command `app` reports an address that it cannot use in one line, before it loads anything."""

from __future__ import annotations

import contextlib
import socket

import pytest

from conjure.cli.app import validated_root_path


def test_a_busy_port(conjure_command):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        code, out, err = conjure_command("app", "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"port {port}: Address already in use" in err


@pytest.mark.parametrize("path", ["conjure", "", "/", "/a b", "/a?b", "ftp://host/a", "/<b>", "//host"])
def test_invalid_root_paths(conjure_command, path):
    code, out, err = conjure_command("app", "--root-path", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "must be a path such as /conjure" in err


@pytest.mark.parametrize("path", ["/conjure", "/a/b-c", "https://example.org/conjure", "http://127.0.0.1:80/x"])
def test_valid_root_paths(path):
    assert validated_root_path(path) == validated_root_path(f"{path}/") == path
