"""The routes of Gradio that strangers can use. Those that the app does not need, such as uploads, are refused."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, PlainTextResponse

from conjure.app.request_values import RequestValues
from conjure.app.visitors import Visitors
from conjure.io.text import printable, shorten

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_ESCAPED_CHAR = 12  # bytes of a character in JSON, as two escaped surrogates
MAX_OTHER_BYTES = 100_000  # bytes of a request besides its texts
BODY_TIMEOUT = 30.0  # seconds in which the body of a request must arrive
# The page of Gradio takes its own address from this header, which no proxy sends
_IGNORED_HEADERS = (b"x-gradio-server",)

# All other routes for POST write files, connect to other hosts or change the app
_POST_ROUTES = re.compile(r"/gradio_api/(?P<function>queue/join|(call|run)/[^/]+)/?|/gradio_api/(cancel|reset)/?|/login/?")
# Files of the server, addresses that the server would read, pages that are saved on the server, and statistics
_REFUSED_GET_ROUTES = re.compile(
    r"/gradio_api/(file|proxy|deep_link|stream|upload|run|vibe|dev|profiling|custom_component).*"
    r"|/(monitoring|openapi\.json|docs|redoc).*",
    re.DOTALL,
)
_STREAM = re.compile(r"/gradio_api/(?:queue/data|call/.+/(?P<event>[^/]+))/?")


class RequestFilter:
    """ASGI middleware that refuses routes and large requests, registers open streams, and reports errors in one line.

    Args:
        app: The next application.
        visitors: The visitors, who are informed of open streams.
        values: The check of the values of requests.
    """

    def __init__(self, app: Any, visitors: Visitors, values: RequestValues) -> None:
        self.app = app
        self.visitors = visitors
        self.values = values
        self.max_bytes = MAX_ESCAPED_CHAR * values.max_chars + MAX_OTHER_BYTES

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        route = None if method in SAFE_METHODS else _POST_ROUTES.fullmatch(path)
        if _REFUSED_GET_ROUTES.fullmatch(path) if method in SAFE_METHODS else route is None:
            await PlainTextResponse("this app has no such route", 404)(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.max_bytes:
            await PlainTextResponse(self._too_large(), 413)(scope, receive, send)
            return
        scope = scope | {"headers": [header for header in scope["headers"] if header[0] not in _IGNORED_HEADERS]}
        if route is None:
            await self._forward(scope, receive, send)
        else:
            await self._check_and_forward(scope, receive, send, route["function"])

    async def _check_and_forward(self, scope: Any, receive: Any, send: Any, function: str | None) -> None:
        """Read the body of a request, and pass the request on if it is complete and small, and its values are allowed.

        Args:
            scope: As in ASGI, and so are `receive` and `send`.
            receive: Returns the parts of the body.
            send: Sends the response.
            function: The part of the route that names a function of Gradio; None for other routes.
        """
        body = b""
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > self.max_bytes:  # a body without a declared length
                        await PlainTextResponse(self._too_large(), 413)(scope, receive, send)
                        return
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            await PlainTextResponse("the request did not arrive in time", 408)(scope, receive, send)
            return
        problem = None if function is None else self.values.problem(body, is_direct=function.startswith("run/"))
        if problem is not None:
            await JSONResponse({"detail": problem}, 400)(scope, receive, send)  # the form in which the page shows it
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Any:
            return messages.pop() if messages else await receive()

        await self._forward(scope, receive_again, send)

    async def _forward(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and answer an exception with one line, which is also written to standard error."""
        started = False

        async def tracked_send(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        stream = _STREAM.fullmatch(scope["path"]) if scope["method"] == "GET" else None
        try:
            if stream is None:
                await self.app(scope, receive, tracked_send)
            else:
                sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
                with self.visitors.stream(stream["event"] or sessions[-1]):
                    await self.app(scope, receive, tracked_send)
        except Exception as error:
            reason = shorten(printable(f"{type(error).__name__}: {error}"), 200)
            print(f"invalid request for {shorten(printable(scope['path']), 80)}: {reason}", file=sys.stderr, flush=True)
            if not started:
                await PlainTextResponse("the request is invalid; see the description of the API", 400)(scope, receive, send)
            elif stream is not None:
                await send({"type": "http.response.body"})  # the end of the stream

    def _too_large(self) -> str:
        return f"the request is too large; at most {self.max_bytes} bytes are allowed"
