"""The visitors of the web app: how many requests each may have, and which requests nobody waits for any more."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import HTTPException, Request
from gradio.context import LocalContext

from conjure.app.jobs import CancelledError

CONNECT_TIMEOUT = 15.0  # seconds after which a request must have a client that reads its answers


class Visitors:
    """The requests of all visitors, in the queue of Gradio and in computation.

    Args:
        max_jobs: Requests of one visitor that wait or are computed at the same time.
    """

    def __init__(self, max_jobs: int) -> None:
        self.max_jobs = max_jobs
        self._queue: Any = None
        self._streams: Counter[str] = Counter()  # open streams of answers, by session or by request
        self._flags: defaultdict[str, set[threading.Event]] = defaultdict(set)  # of running computations, by session
        self._lock = threading.Lock()

    def attach(self, blocks: Any) -> None:
        """Check each request before it enters the queue of a Gradio app.

        Gradio limits only the length of the queue. It has no public way to limit the requests of one visitor.
        """
        self._queue = blocks._queue
        push = self._queue.push

        async def checked_push(body: Any, request: Request, username: str | None) -> Any:
            await self._drop_abandoned()
            function = blocks.fns.get(body.fn_index)
            if function is not None and len(body.data) != len(function.inputs):
                raise HTTPException(400, f"the request has {len(body.data)} values; must be {len(function.inputs)}")
            if self._count_jobs(body.session_hash, request) >= self.max_jobs:
                raise HTTPException(429, f"you have {self.max_jobs} unfinished requests, the maximum; wait until one is answered")
            request.state.joined = time.monotonic()
            return await push(body=body, request=request, username=username)

        self._queue.push = checked_push

    @contextlib.contextmanager
    def stream(self, key: str) -> Iterator[None]:
        """Context manager for an open stream of answers.

        Args:
            key: The session of the visitor, or the identifier of one request.
        """
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    @contextlib.contextmanager
    def job(self, session: str) -> Iterator[Callable[[], None]]:
        """Context manager for a computation, which is entered in the thread that Gradio starts for it.

        Args:
            session: The session of the visitor.

        Yields:
            A function that raises `CancelledError` as soon as the visitor has cancelled or nobody waits for the answer.
        """
        flag = threading.Event()
        event = None if self._queue is None else self._queue.event_ids_to_events.get(LocalContext.event_id.get(None))

        def raise_if_cancelled() -> None:
            if flag.is_set() or (event is not None and self._is_abandoned(event)):
                raise CancelledError

        with self._lock:
            self._flags[session].add(flag)
        try:
            raise_if_cancelled()
            yield raise_if_cancelled
        finally:
            with self._lock:
                self._flags[session].discard(flag)
                if not self._flags[session]:
                    del self._flags[session]

    def cancel(self, session: str) -> None:
        """Cancel all computations of a visitor that are running."""
        with self._lock:
            for flag in self._flags.get(session, ()):
                flag.set()

    def _is_abandoned(self, event: Any) -> bool:
        """Return whether the client of a request has disconnected, or has not connected in time to read the answers."""
        if not event.alive:
            return True
        if self._streams[event.session_hash] or self._streams[event._id]:
            return False
        return bool(time.monotonic() - event.request.state.joined > CONNECT_TIMEOUT)

    def _waiting(self) -> list[Any]:
        return [event for queue in self._queue.event_queue_per_concurrency_id.values() for event in queue.queue]

    async def _drop_abandoned(self) -> None:
        """Remove requests from the queue that nobody waits for. Gradio removes only those whose client has disconnected."""
        for event in self._waiting():
            if self._is_abandoned(event):
                await self._queue.clean_events(event_id=event._id)

    def _count_jobs(self, session: str | None, request: Request) -> int:
        """Return the number of requests that wait or are computed, of the same session or from the same address."""
        events = self._waiting() + [event for events in self._queue.active_jobs for event in events or ()]
        address = _address(request)
        return sum(event.session_hash == session or _address(event.request) == address for event in events)


def _address(request: Request) -> str:
    """Return the address of a client; for IPv6 its network of 64 bits, which usually belongs to one household.

    An IPv4 address may be written as an IPv6 address, and with the port of the connection.
    """
    host = request.client.host if request.client else ""
    with_port = re.fullmatch(r"([\d.]+):\d+|\[(.+)\](:\d+)?", host)
    host = next(filter(None, with_port.groups()[:2])) if with_port else host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
