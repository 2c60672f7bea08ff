"""Progress of long work: a bar on a terminal, plain lines at intervals in a log."""

from __future__ import annotations

import re

import pytest

from conjure.cli.console import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test sets it, in seconds."""
    time = [0.0]
    monkeypatch.setattr("conjure.cli.console.time.monotonic", lambda: time[0])
    return time


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_a_line_every_five_minutes_and_one_at_the_end(clock, capsys):
    with ProgressBar() as progress:
        for step in range(1, 61):
            clock[0] = 20.0 * step
            progress(step, 60)
    assert lines(capsys) == [
        "15 of 60 denoising steps (25%) after 5 min, about 15 min left",
        "30 of 60 denoising steps (50%) after 10 min, about 10 min left",
        "45 of 60 denoising steps (75%) after 15 min, about 5 min left",
        "60 of 60 denoising steps (100%) after 20 min, about 0 min left",
        "finished: 60 of 60 denoising steps (100%) after 20 min",
    ]


def test_short_work_writes_nothing_to_a_log(clock, capsys):
    with ProgressBar() as progress:
        clock[0] = 299.0
        progress(1, 2)
    assert lines(capsys) == []


def test_interrupted_work_says_how_far_it_came(clock, capsys):
    def stop_after_a_step() -> None:
        with ProgressBar() as progress:
            clock[0] = 9000.0
            progress(1, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_a_step()
    assert re.fullmatch(r"stopped: 1 of 4 denoising steps \(25%\) after 2\.5 hours", lines(capsys)[-1])
