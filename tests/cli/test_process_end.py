"""How a command ends: unusable widths, Ctrl-C, and addresses that the app cannot listen on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest

from conjure.cli.app import check_address
from conjure.errors import InputError

CONSOLE_SCRIPT = "from conjure.cli import main; main()"
INTERRUPT_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


def run(*arguments: str, environment: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CONSOLE_SCRIPT, *arguments]
    return subprocess.run(
        command, env=os.environ | (environment or {}), stderr=subprocess.PIPE, text=True, timeout=120, **options
    )


def run_in_place_of_commands(body: str, before: str) -> subprocess.CompletedProcess[str]:
    """Run `conjure` in a new process, with other code in place of its commands.

    Args:
        body: One line of code that runs in place of the commands.
        before: One line of code that runs before `conjure` is imported.
    """
    replaced = f"import conjure.cli.commands as commands\ndef command(_):\n    {body}\ncommands.run = command"
    code = f"{before}\n{replaced}\n{CONSOLE_SCRIPT}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)


@pytest.fixture(scope="module")
def filled_store_file(tmp_path_factory):
    import conjure

    path = tmp_path_factory.mktemp("store") / "s"
    store = conjure.Store(path)
    store.for_baseline({"name": "b"})
    store.close()
    return path


@pytest.mark.parametrize("width", ["0", "1", "²", "9" * 5000])
def test_unusable_widths_are_ignored(conjure_command, filled_store_file, monkeypatch, width):
    expected = conjure_command("store", "info", filled_store_file)
    assert expected[0] == 0
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("LINES", width)
    assert conjure_command("store", "info", filled_store_file) == expected
    monkeypatch.setenv("COLUMNS", width)
    assert "Usage" in conjure_command("--help")[1]


@pytest.mark.parametrize(("columns", "expected"), [(1, 80), (2, 80), (0, 80), (60, 60)])
def test_terminals_without_room_are_printed_to_as_wide_ones(filled_store_file, columns, expected):
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", CONSOLE_SCRIPT, "store", "info", str(filled_store_file)]
    subprocess.run(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, timeout=120, check=True)
    printed = os.read(main_end, 100_000).decode()
    os.close(main_end)
    os.close(terminal)
    widths = [len(re.sub("\x1b\\[[^m]*m", "", line)) for line in printed.splitlines()]
    assert expected - 20 < max(widths) <= expected


def test_a_usable_width_is_used(conjure_command, filled_store_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, conjure_command("store", "info", filled_store_file)[1].splitlines())) <= 30


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ("--help",)),
        ("rich", ("--help",)),
        ("torch", ("compare", "a", "b")),
        pytest.param("gradio", ("app",), marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_during_an_import_ends_in_one_line(tmp_path, module, arguments):
    """A module that is imported in the first seconds sends the signal and then fails, as an import that does not end."""
    (tmp_path / f"{module}.py").write_text(f"{INTERRUPT_ITSELF}raise SystemError('the import went on')\n")
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    completed = run(*arguments, environment={"PYTHONPATH": python_path}, stdout=subprocess.PIPE)
    assert (completed.returncode, completed.stderr, completed.stdout) == (1, "interrupted\n", "")


def test_an_interrupt_while_other_threads_compute_ends_in_one_line(tmp_path):
    """Threads of PyTorch would abort a process that waits for their end."""
    body = f"threading.Thread(target=time.sleep, args=(60,)).start(); {INTERRUPT_ITSELF.strip()}; time.sleep(60)"
    completed = run_in_place_of_commands(body, before="import threading, time")
    assert (completed.returncode, completed.stderr) == (1, "interrupted\n")


def test_a_deleted_current_folder_is_one_line(conjure_command, tmp_path, monkeypatch):
    """MKL would abort the process when it is loaded."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    code, out, err = conjure_command("store", "info", tmp_path / "s")
    assert (code, out) == (2, "")
    assert err == "error: the current folder cannot be used: No such file or directory; change to another folder\n"


def test_python_without_docstrings_is_one_line():
    completed = run("compare", "a", "b", environment={"PYTHONOPTIMIZE": "2"}, stdout=subprocess.PIPE)
    assert (completed.returncode, completed.stdout, completed.stderr.count("\n")) == (2, "", 1)
    assert "Python runs with -OO or PYTHONOPTIMIZE=2" in completed.stderr


def test_an_unknown_backend_of_figures_is_ignored(tmp_path):
    """Matplotlib fails when it is imported with an unknown backend. It is imported after the computation."""
    code = (
        "import conjure.cli.commands as commands\n"
        "commands.run = lambda _: print(__import__('matplotlib').get_backend())\n"
        f"{CONSOLE_SCRIPT}"
    )
    command = [sys.executable, "-c", code, "--version"]
    completed = subprocess.run(command, env=os.environ | {"MPLBACKEND": "nope"}, capture_output=True, text=True, timeout=60)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "agg\n", "")


def test_an_interrupt_at_the_exit_is_ignored():
    """The result is printed by then."""
    code = f"import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT); {CONSOLE_SCRIPT}"
    completed = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=60)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("conjure ")


@pytest.mark.parametrize(
    "delay", [0, 0.02, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.05, 0.1, 0.3, 1, 2, 4))]
)
@pytest.mark.parametrize("arguments", [("compare", "a", "b"), ("app",)])
def test_an_interrupt_at_any_time_ends_without_a_traceback(arguments, delay):
    """From the first thing that the command does: a test cannot know when Python is about to call it."""
    announce = "lambda number, getsignal=signal.getsignal: print('ready', flush=True) or getsignal(number)"
    code = f"import signal; from conjure.cli import main; signal.getsignal = {announce}; main()"
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 1)
    assert b"Traceback" not in stderr
    assert b"terminate" not in stderr


def test_a_command_in_the_background_of_a_shell_does_not_receive_ctrl_c():
    """A shell script starts it with the signal ignored."""
    completed = run_in_place_of_commands(
        f"{INTERRUPT_ITSELF.strip()}; return 0", before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    )
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.parametrize("host", ["999.1.1.1", "", " ", "192.0.2.1", "a..b", "x" * 300])
def test_hosts_that_the_app_cannot_use_are_refused(conjure_command, host):
    code, out, err = conjure_command("app", "--host", host)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the app cannot listen on the host" in err


@pytest.mark.parametrize("port", [-1, 0, 99_999])
def test_ports_out_of_range_are_refused(conjure_command, port):
    code, out, err = conjure_command("app", "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Invalid value for '--port': Input should be" in err


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on the host '127.0.0.1', port {port}: .*; give another"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", None)
    check_address("localhost", None)
    check_address("0.0.0.0", None)
