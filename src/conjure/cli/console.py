"""What the commands print: results to standard output; progress, warnings and errors to standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer
from rich import markup
from rich.console import Console

from conjure.errors import (
    FewStepModelWarning,
    IndistinctTextWarning,
    InputError,
    NoWorkersWarning,
    QuotedFieldsWarning,
    ReadOnlyStoreWarning,
    TextTruncationWarning,
)
from conjure.io.formatting import pluralize
from conjure.io.text import printable

EXIT_FAILURE = 1
EXIT_INVALID_INPUT = 2
IMMEDIATE_WARNINGS = (NoWorkersWarning, ReadOnlyStoreWarning)  # printed when they are issued

stderr = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def output_console(**options: Any) -> Console:
    """Return a console on standard output that prints text unchanged: without highlighting and without emoji codes."""
    return Console(highlight=False, emoji=False, **options)


def plain(text: str) -> str:
    """Return `text` with a space for each character that could control the terminal."""
    return printable(text, keep="\n")


def escape(text: str) -> str:
    """Return `text` such that rich prints it literally and it cannot control the terminal."""
    return markup.escape(plain(text))


def print_text(text: str) -> None:
    """Print lines of text unchanged, or on a terminal with a space for each character that could control it."""
    print(plain(text) if sys.stdout.isatty() else text, end="")


def print_json(value: Mapping[str, Any] | Sequence[Any], allow_nan: bool = False) -> None:
    """Print `value` as JSON. NaN, which JSON does not define, raises `ValueError` unless `allow_nan`."""
    print(json.dumps(value, default=str, allow_nan=allow_nan))


def print_result(summary: Mapping[str, Any], markdown: str, as_json: bool, non_finite_texts: Sequence[str] = ()) -> None:
    """Print a result, and exit with 1 if it excludes texts.

    Args:
        summary: The result as plain data, which is printed with `as_json`.
        markdown: The result as a Markdown document, which is printed otherwise.
        as_json: Whether to print JSON.
        non_finite_texts: Texts without a finite result; the result excludes them.
    """
    if as_json:
        print_json(summary)
    else:
        from rich.markdown import Markdown

        Console(emoji=False).print(Markdown(plain(markdown)))
    if non_finite_texts:
        from conjure.similarity.trajectory_cache import non_finite_message

        print_warning(f"{non_finite_message(non_finite_texts)}; the result excludes them")
        raise typer.Exit(EXIT_FAILURE)


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line on standard error. It can replace `warnings.showwarning`."""
    stderr.print(f"[yellow]warning:[/] {escape(' '.join(str(message).split()))}")


def print_error(message: str, code: int) -> int:
    """Print an error as one line on standard error, and return the exit code `code`."""
    stderr.print(f"[red]error:[/] {escape(' '.join(message.split()))}")
    return code


@contextlib.contextmanager
def deprecations_printed() -> Iterator[None]:
    """Context manager that prints the warnings about old names, which Python hides by default, and about files of pairs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", ".* was renamed to ", DeprecationWarning)
        warnings.simplefilter("always", QuotedFieldsWarning)
        warnings.showwarning = print_warning
        yield


def silence() -> None:
    """Switch off the log messages and warnings of libraries, and print the progress of downloads, until the command ends."""
    from conjure.io.logging import set_reporter, silence_libraries

    silence_libraries()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it works without a folder for its cache
    set_reporter(lambda message: stderr.print(escape(message)))
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", FewStepModelWarning)
    warnings.showwarning = print_warning


class TruncationWarnings:
    """Context manager that prints one line about all texts that are truncated or contain unknown tokens.

    Texts without tokens and texts with the same tokens have a line of their own. Warnings about missing workers and read-only
    stores are printed immediately; all other warnings are ignored.
    """

    def __enter__(self) -> None:
        self._messages: list[str] = []
        self._indistinct: list[str] = []
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", TextTruncationWarning)  # once per text
        for category in IMMEDIATE_WARNINGS:
            warnings.simplefilter("always", category)
        warnings.showwarning = self._collect

    def _collect(self, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, IMMEDIATE_WARNINGS):
            print_warning(message)
        else:
            messages = self._indistinct if issubclass(category, IndistinctTextWarning) else self._messages
            messages.append(" ".join(str(message).split()))

    def __exit__(self, *exception: Any) -> None:
        self._filters.__exit__(*exception)
        if self._messages:
            verbs = ("was", "contains") if len(self._messages) == 1 else ("were", "contain")
            texts = pluralize(len(self._messages), "text")
            print_warning(f"{texts} {verbs[0]} truncated or {verbs[1]} unknown tokens; the first: {self._messages[0]}")
        if self._indistinct:
            number = pluralize(len(self._indistinct), "warning")
            print_warning(f"{number} about texts without tokens or with the same tokens; the first: {self._indistinct[0]}")


@contextlib.contextmanager
def truncation_as_error(strict: bool) -> Iterator[None]:
    """Context manager that prints one warning per truncated text or, if `strict`, raises `InputError` for the first one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "default", TextTruncationWarning)
        warnings.simplefilter("always", ReadOnlyStoreWarning)
        try:
            yield
        except TextTruncationWarning as warning:
            raise InputError(str(warning)) from warning


class ProgressBar:
    """Context manager that reports the denoising progress on standard error, and returns its callback.

    A terminal shows a bar. A log gets plain lines instead: one every `LOG_INTERVAL` seconds, and one at the end of work that took
    so long.
    """

    LOG_INTERVAL = 300.0

    def __enter__(self) -> Callable[[int, int], None]:
        from rich import progress

        if not stderr.is_terminal:
            self._started = self._logged = time.monotonic()
            self._last = (0, 0)
            return self._log
        columns = (progress.TextColumn("denoising"), progress.BarColumn(), progress.TimeRemainingColumn())
        self._progress = progress.Progress(*columns, console=stderr, transient=True)
        self._progress.start()
        task = self._progress.add_task("denoising", total=None)
        return lambda completed, total: self._progress.update(task, completed=completed, total=total)

    def _log(self, completed: int, total: int) -> None:
        """Print a line if the last one is long ago."""
        now = time.monotonic()
        self._last = (completed, total)
        if now - self._logged >= self.LOG_INTERVAL and completed:
            self._logged = now
            remaining = (now - self._started) * (total - completed) / completed
            stderr.print(f"{_share(completed, total)} after {_duration(now - self._started)}, about {_duration(remaining)} left")

    def __exit__(self, *exception: Any) -> None:
        if stderr.is_terminal:
            self._progress.stop()
        elif self._logged > self._started:
            state = "stopped" if exception[0] else "finished"
            stderr.print(f"{state}: {_share(*self._last)} after {_duration(time.monotonic() - self._started)}")


def _share(completed: int, total: int) -> str:
    return f"{completed} of {total} denoising steps ({completed / max(total, 1):.0%})"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} hours"
