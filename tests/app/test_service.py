"""The service of the web app: limits, caching, cancellation and escaping, without a browser."""

from __future__ import annotations

import html
import os
import re
import warnings
from dataclasses import replace

import pytest

from conjure import InputError, load
from conjure.app.limits import Limits
from conjure.app.service import Answer, CancelledError, Service, record_warning

HOSTILE = '<img src=x onerror="window.stolen=1"> <script>window.stolen=2</script> ${window.stolen=3} {{7*7}} \' 🐅 \u202egnp'


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    for name in ("first", "second <b>"):
        (runs / name).mkdir()
        (runs / name / "report.html").write_text(f"<!doctype html><h1>Run {html.escape(name)}</h1>")
    (runs / "unfinished").mkdir()
    secret = tmp_path_factory.mktemp("elsewhere")
    (secret / "report.html").write_text("secret")
    (runs / "link").symlink_to(secret)
    return Service(("default",), runs, Limits(max_chars=120, max_texts=4, samples=3, steps=6))


def test_a_comparison_is_answered_step_by_step(service):
    answers = list(service.compare("dog", "cat", "default", 2, 2, 0))
    assert ["1 sample so far" in answer.head for answer in answers] == [True, True, False, False]
    assert "2 samples so far" in answers[2].head
    assert [answer.body.count("<img") for answer in answers] == [2, 2, 2, 0]
    assert "along the trajectory of “dog”" in answers[0].body
    assert "iframe" in answers[-1].body
    assert list(service.compare("dog", "cat", "default", 2, 2, 0)) == answers[-1:]  # from the cache


def test_the_cache_is_limited(monkeypatch):
    monkeypatch.setattr("conjure.app.service.MAX_CACHED_CHARS", 1000)
    answer = Answer("", "x" * 400)
    service = Service()
    for number in range(5):
        service._cache((number,), answer)
    assert service._cached((0,)) is None
    assert service._cached((3,)) == answer
    service._cache((5,), answer)
    assert service._cached((3,)) == answer  # more recently used than (4,)


def test_truncated_texts_are_reported(service, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", record_warning)
        *_, last = service.compare("cat " + "very long " * 11, "<🐅>", "default", 1, 1, 0)
        assert (
            "text &#x27;&lt;🐅&gt;&#x27; has 1 symbols that the text encoder of this model maps to the unknown token" in last.head
        )
        assert "<🐅>" not in last.head


def test_a_cancelled_computation_ends(service):
    """An exception of the progress callback ends the computation, and the next request is computed."""

    def cancel(completed: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        list(service.compare("one", "two", "default", 3, 6, 0, cancel))
    with pytest.raises(CancelledError):
        service.matrix("one\ntwo", "default", 3, 6, 0, cancel)
    assert len(list(service.compare("one", "two", "default", 1, 1, 0))) == 2


def test_a_busy_server_is_reported(service, monkeypatch):
    monkeypatch.setattr("conjure.app.service.JOB_TIMEOUT", 0.01)
    running = service.compare("three", "four", "default", 1, 6, 0)
    next(running)
    with pytest.raises(InputError, match="busy"):
        list(service.compare("five", "six", "default", 1, 1, 0))
    running.close()
    list(service.compare("five", "six", "default", 1, 1, 0))


def test_limits_below_the_default_settings():
    service = Service(limits=Limits(max_chars=8, samples=1, steps=1, max_texts=2))
    service.compute_examples()  # those beyond the limits are skipped
    assert len(service._answers) == 1


@pytest.mark.filterwarnings("ignore::conjure.errors.TextTruncationWarning")
def test_texts_are_no_markup(service):
    comparison = list(service.compare(HOSTILE, "cat", "default", 1, 1, 0))
    matrix = service.matrix(f"{HOSTILE}\ncat", "default", 1, 1, 0)
    for answer in (*comparison, matrix):
        tags = set(re.findall(r"<(\w+)", answer.head + answer.body))
        assert tags <= {"p", "figure", "figcaption", "img", "iframe"}
        assert 'onerror="' not in answer.body
        assert "\u202e" not in answer.head + answer.body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "cat", "default", 1, 1, 0), "empty"),
        (("x" * 121, "cat", "default", 1, 1, 0), "121 characters; at most 120 are allowed"),
        (("dog", None, "default", 1, 1, 0), "empty"),
        (("dog", "cat", "/etc", 1, 1, 0), "not available"),
        (("dog", "cat", "default", 4, 1, 0), "samples is '4'"),
        (("dog", "cat", "default", 1.5, 1, 0), "samples is '1.5'"),
        (("dog", "cat", "default", 1, 7, 0), "steps is '7'"),
        (("dog", "cat", "default", 1, 1, -1), "seed is '-1'"),
        (("dog", "cat", "default", True, 1, 0), "samples is 'True'"),
        (("dog", "cat", "default", 1, "2", 0), "steps is '2'"),
        (("dog", "cat", "default", 1, [2], 0), "steps is '[2]'"),
        (("dog", "cat", ["default"], 1, 2, 0), "not available"),
        (("dog", "cat", "default", float("inf"), 2, 0), "samples is 'inf'"),
        (("dog", "cat", "default", float("nan"), 2, 0), "samples is 'nan'"),
    ],
)
def test_limits(service, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        next(service.compare(*arguments))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a\nb\nc\nd\ne", "5 texts"),
        ("a", "at least two"),
        ("a\na", "twice"),
        (None, "one text per line"),
        ("a\n" * 10**5, "at most"),
    ],
)
def test_limits_of_a_matrix(service, lines, message):
    with pytest.raises(InputError, match=message):
        service.matrix(lines, "default", 1, 1, 0)


def test_only_runs_of_the_folder_can_be_viewed(service):
    assert service.finished_runs() == ["first", "second <b>"]
    assert "Run first" in service.report("first")
    for name in ("link", "..", "../first", "/etc", "unfinished", "", "first/../second <b>"):
        with pytest.raises(InputError, match="no run"):
            service.report(name)
    with pytest.raises(InputError, match="none yet"):
        Service().report("first")


def test_runs_that_cannot_be_read(tmp_path):
    runs = tmp_path / "runs"
    for name in ("good", "bytes", "folder", "summary", "loop", "fifo", "elsewhere"):
        (runs / name).mkdir(parents=True)
    (tmp_path / "private.html").write_text("secret")
    (runs / "good" / "report.html").write_text("<p>/home/me/models/tiny and tiny2</p>")
    (runs / "good" / "summary.json").write_text('{"process": {"model": "/home/me/models/tiny"}}')
    (runs / "bytes" / "report.html").write_bytes(b"\xff")
    (runs / "folder" / "report.html").mkdir()
    (runs / "summary" / "report.html").write_text("<p>text</p>")
    (runs / "summary" / "summary.json").write_text("{")
    (runs / "loop" / "report.html").symlink_to(runs / "loop" / "report.html")
    os.mkfifo(runs / "fifo" / "report.html")
    (runs / "elsewhere" / "report.html").symlink_to(tmp_path / "private.html")
    os.mkdir(os.fsencode(runs) + b"/\xff")
    (runs / os.fsdecode(b"\xff") / "report.html").write_text("<p>text</p>")
    service = Service(runs=runs)
    assert service.finished_runs() == ["bytes", "good", "summary"]
    assert service.report("good") == "<p>tiny and tiny2</p>"
    with pytest.raises(InputError, match="the report of the run 'bytes' cannot be read"):
        service.report("bytes")
    for content in ("{", "[]", '{"process": 1}', '"text"'):
        (runs / "summary" / "summary.json").write_text(content)
        with pytest.raises(InputError, match="the summary of the run 'summary' cannot be read"):
            service.report("summary")
    assert Service(runs=tmp_path / "removed").finished_runs() == []


def test_labels_of_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/tiny", "b/tiny", "default"):
        (tmp_path / name).mkdir(parents=True)
    models = ("default", "a/tiny", str(tmp_path / "b" / "tiny"), "org/name", "a/tiny")
    service = Service(models)
    assert service.labels == {
        "default": "default",
        "tiny": "a/tiny",
        "tiny (2)": str(tmp_path / "b" / "tiny"),
        "org/name": "org/name",
    }
    with pytest.raises(InputError, match=re.escape("allowed are default, tiny, tiny (2), org/name")):
        service.process("a/tiny", 1)
    with pytest.raises(InputError) as error:
        service.process("tiny (2)", 1)
    assert str(tmp_path) not in service.without_paths(str(error.value))


def test_answers_show_no_path_of_a_model(tmp_path, monkeypatch):
    folder = tmp_path / "tiny <b>"
    monkeypatch.setattr("conjure.app.service.load", lambda model: replace(load("default"), model=model))
    *_, answer = Service((str(folder),)).compare("dog", "cat", "tiny <b>", 1, 1, 0)
    assert "model tiny" in answer.body
    assert str(tmp_path) not in answer.head + answer.body


def test_the_options_of_loading_apply_to_all_models(tiny_sd):
    service = Service((str(tiny_sd), "default"), load_arguments={"device": "cpu", "negative_prompt": "rain", "guidance": 2.0})
    for label in service.labels:
        process = service.process(label, 2)
        assert (process.pipeline_kwargs["negative_prompt"], process.guidance, process.steps) == ("rain", 2.0, 2)


@pytest.mark.parametrize(
    ("fixture", "settings", "element"),
    [
        ("tiny_video", {"height": 32, "width": 32, "frames": 9}, '<img alt="video"'),
        ("tiny_sound", {"seconds": 0.2}, "<audio controls"),
    ],
)
def test_videos_and_sounds_are_answered(fixture, settings, element, request):
    service = Service((request.getfixturevalue(fixture).model,), load_arguments=settings)
    (label,) = service.labels
    *shown, last = service.compare("dog", "cat", label, 1, 2, 0)
    assert all(answer.body.count("<img") == 2 for answer in shown)
    assert html.unescape(last.body).count(element) == 2
    assert "<img" in service.matrix("dog\ncat\nbird", label, 1, 2, 0).body
