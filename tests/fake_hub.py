"""A stand-in for the Hugging Face Hub on this machine, with the part of its protocol that downloads need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """A server with repositories.

    Attributes:
        folders: The folders of its repositories, by name.
        errors: Status code and error code of repositories that cannot be read, by name.
        requested: The files that were downloaded, as `owner/name/path`.
        url: The address of the server.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status code, headers and body for a path."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository in self.errors:
            status, code = self.errors[repository]
            return status, {"X-Error-Code": code, "X-Error-Message": code}, b""
        if repository not in self.folders:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        folder = self.folders[repository]
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if is_api and rest[:1] == ["tree"]:
            return self._json([{"type": "file", "oid": _digest(file), **_size(file, folder, "path")} for file in files])
        if is_api:
            siblings = [_size(file, folder, "rfilename") for file in files]
            return self._json({"id": repository, "sha": COMMIT, "siblings": siblings})
        file = folder / "/".join(rest[2:])
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        self.requested.append("/".join((repository, *rest[2:])))
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(file)}"'}, file.read_bytes()

    @staticmethod
    def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def _size(file: Path, folder: Path, key: str) -> dict[str, Any]:
    return {key: file.relative_to(folder).as_posix(), "size": file.stat().st_size}


@contextlib.contextmanager
def serve() -> Iterator[FakeHub]:
    """Context manager with a running server."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (a name of the library)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
