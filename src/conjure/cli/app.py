"""The command `app`: serve the web app."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated

import typer

from conjure.cli.console import silence, stderr
from conjure.cli.process import ProcessOptions, open_store, with_process_options
from conjure.errors import InputError

ROOT_PATH = re.compile(r"(https?://[\w.:\[\]-]+)?(/[\w.~%-]+)*/?")


@with_process_options("model", "steps", "unit", "workers", "ray")
def serve_app(
    models: Annotated[str, typer.Option(help="Models that visitors can select, separated by commas.")] = "default",
    runs: Annotated[
        str | None, typer.Option(help="Folder whose subfolders are run folders of conjure bench, which visitors can view.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all network interfaces.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Port to listen on. Without this option: the first free port from 7860."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User name that visitors must enter; its password is read from CONJURE_PASSWORD.", show_default=False),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            help="Path under which a reverse proxy offers the app, such as /conjure. The proxy must remove it from addresses.",
            show_default=False,
        ),
    ] = None,
    max_chars: Annotated[int, typer.Option(min=1, help="Maximum number of characters per text.")] = 300,
    max_texts: Annotated[int, typer.Option(min=2, help="Maximum number of texts in a matrix, a drift or a ranking.")] = 16,
    samples: Annotated[int, typer.Option(min=1, help="Maximum number of samples k.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Maximum number of steps T.")] = 50,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Maximum number of waiting requests; further requests are rejected.")
    ] = 32,
    concurrency: Annotated[int, typer.Option(min=1, help="Number of requests that run at the same time.")] = 1,
    max_jobs_per_visitor: Annotated[
        int, typer.Option(min=1, help="Maximum number of unfinished requests of one visitor; further requests are rejected.")
    ] = 4,
    *,
    process_options: ProcessOptions,
) -> None:
    """Serve the web app: compare and rank texts, compare settings of a model, and view and compare finished runs.

    The options of a model apply to all models.
    """
    password = os.environ.get("CONJURE_PASSWORD")
    if bool(user) != bool(password) or user == "":
        state = "set" if password else "not set"
        raise InputError(f"the user is {user!r} and CONJURE_PASSWORD is {state}; give both or neither")
    if runs is not None and not os.path.isdir(runs):
        raise InputError(f"runs is {runs!r}, which is not a folder; give a folder whose subfolders are runs of conjure bench")
    check_address(host, port)
    if root_path is not None:
        root_path = validated_root_path(root_path)
    with stderr.status("starting"):
        from conjure.app.limits import Limits
        from conjure.app.service import Service
        from conjure.app.ui import serve

        silence()
        limits = Limits(max_chars, max_texts, samples, steps, max_queue, concurrency, max_jobs_per_visitor)
        names = [name.strip() for name in models.split(",") if name.strip()]
        load_arguments = {name: value for name, value in process_options.arguments().items() if name not in ("model", "steps")}
        service = Service(names, Path(runs) if runs else None, limits, load_arguments, open_store(process_options.store))
        service.process(next(iter(service.labels), models), steps=1)  # report a model that cannot be loaded before serving
    serve(service, host=host, port=port, user=(user, str(password)) if user else None, root_path=root_path)


def validated_root_path(root_path: str) -> str:
    """Return the path of the app behind a reverse proxy, without a slash at its end.

    Args:
        root_path: A path such as `/conjure`, or the URL of the app, for a proxy that does not pass on the header `Host`.

    Raises:
        InputError: If it is neither.
    """
    if not ROOT_PATH.fullmatch(root_path) or root_path in ("", "/"):
        raise InputError(f"root-path is {root_path!r}; must be a path such as /conjure, or a URL such as https://host/conjure")
    return root_path.rstrip("/")


def check_address(host: str, port: int | None) -> None:
    """Check that a server can listen on an address.

    Args:
        host: A name or an address.
        port: The port; None for any.

    Raises:
        InputError: If the address is not one of this machine, or the port is in use or not permitted.
    """
    try:
        if not host.strip():
            raise OSError("it is blank")
        family, _, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        where = f"on the host {host!r}" + (f", port {port}" if port else "")
        raise InputError(f"the app cannot listen {where}: {reason}; give another --host or --port") from error
