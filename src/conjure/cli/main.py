"""The command `conjure`. Exit codes: 0 on success, 2 for invalid input (one line on standard error), 1 for any other failure.

All other modules are imported inside of `main`, so that Ctrl-C is handled meanwhile.
"""

from __future__ import annotations

import os
import sys

EXIT_FAILURE = 1
WIDTHS = range(20, 10_001)  # usable widths of a terminal, in columns


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: The command and its options; `sys.argv` by default, where the command is the whole Python process.
    """
    is_whole_process = arguments is None
    try:
        if is_whole_process:
            import signal

            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell sets it for commands in the background
                signal.signal(signal.SIGINT, interrupt)
            from conjure.cli.streams import prepare_standard_streams

            prepare_standard_streams()
            os.environ["MPLBACKEND"] = "agg"  # figures are only written to files; matplotlib fails for an unknown backend
        ignore_unusable_widths()
        from conjure.cli.commands import run

        code = run(arguments)
        if is_whole_process:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # everything is written; an exception at the exit would be a traceback
    except KeyboardInterrupt:
        if is_whole_process:
            end_interrupted_process()
        print("interrupted", file=sys.stderr)
        code = EXIT_FAILURE
    sys.exit(code)


def interrupt(signal_number: int, frame: object) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, or end the process during an import.

    There is nothing to clean up during an import, and extension modules abort on an exception in their initialisation.

    Args:
        signal_number: The signal.
        frame: The Python code that is being executed.

    Raises:
        KeyboardInterrupt: Outside of imports.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":  # type: ignore[attr-defined]
            end_interrupted_process()
        frame = frame.f_back  # type: ignore[attr-defined]
    raise KeyboardInterrupt


def end_interrupted_process() -> None:
    """End the process without waiting for its threads, which could abort it while they compute."""
    import atexit
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(2, b"interrupted\n")
    atexit._run_exitfuncs()  # for example of Ray, which ends its workers
    os._exit(EXIT_FAILURE)


def ignore_unusable_widths() -> None:
    """Remove sizes of the terminal from the environment in which nothing could be printed, so that defaults are used."""
    for name, allowed in (("COLUMNS", WIDTHS), ("LINES", range(1, 10_001)), ("TERMINAL_WIDTH", WIDTHS)):
        try:
            is_usable = int(os.environ.get(name, "80")) in allowed
        except ValueError:
            is_usable = False
        if not is_usable:
            del os.environ[name]
    if "COLUMNS" not in os.environ and any(_is_narrow(stream) for stream in (0, 1, 2)):
        os.environ["COLUMNS"] = "80"


def _is_narrow(stream: int) -> bool:
    try:
        return os.get_terminal_size(stream).columns not in (0, *WIDTHS)  # 0: unknown, for which libraries have a default
    except OSError:  # no terminal
        return False
