"""Run commands as whole processes that need no imports: a server forks one process per command.

Standard streams and environment variables are those of the test, and the processes end as any Python process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a standard stream can be, other than a path: no file, a file that cannot be written, a pipe whose reader has ended
CLOSED, READ_ONLY, UNREAD = "closed", "read only", "unread"
STREAMS = ("stdin", "stdout", "stderr")


@dataclass(frozen=True)
class Completed:
    """How a command ended: its exit code (negative for a signal) and what it wrote."""

    code: int
    out: str
    err: str


class CommandServer:
    """A process that runs commands.

    Args:
        process: The running server.
        folder: A folder for the outputs of commands.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def run(
        self, *arguments: object, cwd: Path, environment: Mapping[str, str | None] | None = None, **streams: str
    ) -> Completed:
        """Run a command.

        Args:
            arguments: The command and its options.
            cwd: The folder in which it runs.
            environment: Variables to set, or to remove if None.
            streams: What `stdin`, `stdout` and `stderr` are: `CLOSED`, `READ_ONLY`, `UNREAD`, or a path. By default, outputs
                are returned.
        """
        outputs = {name: self.folder / name for name in STREAMS[1:]}
        for path in outputs.values():
            path.write_bytes(b"")
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": dict(environment or {}),
            "streams": {"stdin": os.devnull, **{name: str(path) for name, path in outputs.items()}, **streams},
        }
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())
        return Completed(code, *(path.read_bytes().decode(errors="surrogateescape") for path in outputs.values()))


@contextlib.contextmanager
def command_server(folder: Path) -> Iterator[CommandServer]:
    """Context manager with a running server.

    Args:
        folder: A folder for the outputs of commands.
    """
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield CommandServer(process, folder)
        assert process.stdin
        process.stdin.close()


def serve() -> None:
    """Run commands from standard input until its end. Returns in the process of a command, too."""
    import conjure.cli.commands
    import conjure.diffusion.loading  # noqa: F401

    while line := sys.stdin.readline():
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run_command(request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run_command(request: dict[str, Any]) -> None:
    """Run a command in this process, as its console script does."""
    from conjure.cli import main

    os.chdir(request["cwd"])
    for name, value in request["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    for descriptor, name in enumerate(STREAMS):
        redirect(descriptor, request["streams"][name])
        stream = os.fdopen(descriptor, "w" if descriptor else "r", closefd=False) if request["streams"][name] != CLOSED else None
        setattr(sys, name, stream)
    sys.argv = ["conjure", *request["arguments"]]
    main()


def redirect(descriptor: int, target: str) -> None:
    """Open what a stream is as its descriptor."""
    if target == CLOSED:
        os.close(descriptor)
        return
    if target == UNREAD:
        reader, source = os.pipe()
        os.close(reader)
    else:
        is_output = descriptor > 0 and target != READ_ONLY
        source = os.open(os.devnull if target == READ_ONLY else target, os.O_WRONLY | os.O_APPEND if is_output else os.O_RDONLY)
    os.dup2(source, descriptor)
    os.close(source)


if __name__ == "__main__":
    serve()
