"""The service of the web app: limits, caching, cancellation and escaping, without a browser."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import re
import threading
import time
import warnings
from dataclasses import replace

import pandas
import pytest

import conjure
from conjure import InputError, load
from conjure.app.answers import Answer, AnswerCache
from conjure.app.comparison import TextComparison
from conjure.app.jobs import CancelledError
from conjure.app.limits import Limits
from conjure.app.service import Service
from conjure.app.thread_warnings import record_warning
from conjure.divergence.reference_scale import NO_SIMILARITY
from conjure.evaluation.datasets import from_dataframe
from conjure.process_drift.groups import built_in_texts

PAIRS = {
    "text1": ["gem", "car", "boy", "noon", "cup"], "text2": ["jewel", "journey", "lad", "string", "mug"],
    "score": [3.9, 1.5, 3.8, 0.1, 3.5],
}  # fmt: skip
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
    answers = list(service.compare("dog", "cat", ("default", 2, 2, 0, None)))
    assert ["1 sample so far" in answer.head for answer in answers] == [True, True, False, False]
    assert "2 samples so far" in answers[2].head
    assert [answer.body.count("<img") for answer in answers] == [2, 2, 2, 0]
    assert "along the trajectory of “dog”" in answers[0].body
    assert "iframe" in answers[-1].body
    assert list(service.compare("dog", "cat", ("default", 2, 2, 0, None))) == answers[-1:]  # from the cache


def test_guidance_and_words_of_a_comparison(service, default_process):
    """The page has the numbers of the library, and the numbers as comma-separated values are those of the page."""
    settings = ("default", 2, 2, 1, "4")
    *_, answer = service.compare("a red apple", "a green pear", settings, True, "red=blue\n\ngreen=red ")
    process = default_process.set(steps=2, guidance=4.0)
    estimate = conjure.distance(process, "a red apple", "a green pear", samples=2, seed=1)
    words = conjure.attribute(
        process, "a red apple", "a green pear", replacements={"red": "blue", "green": "red"}, samples=2, seed=1
    )
    page = html.unescape(answer.body)
    assert f"{estimate}" in page
    assert "guidance 4" in page
    assert all(effect.label in page for effect in words.effects)
    rows = list(csv.DictReader(io.StringIO(answer.csv)))
    assert [float(row["contribution"]) for row in rows] == pytest.approx(estimate.per_step, rel=1e-5)
    assert "guidance 7.5" in html.unescape([*service.compare("a red apple", "a green pear", ("default", 2, 2, 1, None))][-1].body)


def test_the_figure_of_a_comparison(service):
    address = service.figure("dog", "cat", ("default", 1, 2, 0, None))
    assert base64.b64decode(address.removeprefix("data:image/png;base64,"))[:8] == b"\x89PNG\r\n\x1a\n"
    assert service.figure("dog", "cat", ("default", 1, 2, 0, None)) is address  # from the cache


def test_a_ranking(service, default_process):
    answer = service.nearest("a small dog", "bicycle\n puppy \n\nwhale", ("default", 2, 2, 0, None))
    rows = list(csv.DictReader(io.StringIO(answer.csv)))
    expected = {
        text: conjure.distance(default_process.set(steps=2), "a small dog", text, samples=2)
        for text in ("bicycle", "puppy", "whale")
    }
    assert [row["text"] for row in rows] == sorted(expected, key=lambda text: expected[text].distance)
    for row in rows:
        estimate = expected[row["text"]]
        assert float(row["distance"]) == pytest.approx(estimate.distance, rel=1e-5)
        assert float(row["stderr"]) == pytest.approx(estimate.stderr, rel=1e-4)
        assert row["samples"] == "2"
    page = html.unescape(answer.body)
    assert page.count("<tr") == 4
    assert "Texts nearest to “a small dog”" in page
    assert NO_SIMILARITY in page  # two steps


@pytest.mark.parametrize(
    ("words", "replacements", "message"),
    [
        (1, "", "neither true nor false"),
        (False, "red", "the word to replace is 'red'; it must be OLD=NEW"),
        (False, "red=blue\nred=green", "given twice for the word 'red'"),
        (False, "dog=cat", "'dog' to replace is in neither text"),
        (False, "red=", "a text is empty"),
        (False, ["red=blue"], "one per line"),
        (False, "\n".join(f"red=blue{number}" for number in range(5)), "there are 5 words to replace; at most 4 are allowed"),
        (False, "red=" + "x" * 121, "at most 120 are allowed"),
    ],
)
def test_limits_of_words(service, words, replacements, message):
    with pytest.raises(InputError, match=re.escape(message)):
        next(service.compare("a red apple", "a green pear", ("default", 1, 1, 0, None), words, replacements))


@pytest.mark.parametrize("guidance", ["ten", -1, "inf", True, [1], float("nan")])
def test_invalid_guidance_is_refused(service, guidance):
    with pytest.raises(InputError, match="the guidance is"):
        next(service.compare("dog", "cat", ("default", 1, 1, 0, guidance)))


def test_the_cache_is_limited(monkeypatch):
    monkeypatch.setattr("conjure.app.answers.MAX_CACHED_CHARS", 1000)
    answer = Answer("", "x" * 400)
    cache = AnswerCache()
    for number in range(5):
        cache.add((number,), answer)
    assert cache.get((0,)) is None
    assert cache.get((3,)) == answer
    cache.add((5,), answer)
    assert cache.get((3,)) == answer  # more recently used than (4,)


def test_truncated_texts_are_reported(service, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", record_warning)
        *_, last = service.compare("cat " + "very long " * 11, "<🐅>", ("default", 1, 1, 0, None))
        assert (
            "text &#x27;&lt;🐅&gt;&#x27; has 1 symbol that the text encoder of this model maps to the unknown token" in last.head
        )
        assert "<🐅>" not in last.head


def test_a_cancelled_computation_ends(service):
    """An exception of the progress callback ends the computation, and the next request is computed."""

    def cancel(completed: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        list(service.compare("one", "two", ("default", 3, 6, 0, None), progress=cancel))
    with pytest.raises(CancelledError):
        service.matrix("one\ntwo", ("default", 3, 6, 0, None), progress=cancel)
    with pytest.raises(CancelledError):
        service.drift("one\ntwo", 5, None, None, None, ("default", 3, 6, 0, None), progress=cancel)
    assert len(list(service.compare("one", "two", ("default", 1, 1, 0, None)))) == 2


def test_a_busy_server_is_reported(service, monkeypatch):
    monkeypatch.setattr("conjure.app.jobs.JOB_TIMEOUT", 0.01)
    running = service.compare("three", "four", ("default", 1, 6, 0, None))
    next(running)
    with pytest.raises(InputError, match="busy"):
        list(service.compare("five", "six", ("default", 1, 1, 0, None)))
    running.close()
    list(service.compare("five", "six", ("default", 1, 1, 0, None)))


def test_examples_give_way_to_visitors(monkeypatch):
    """A visitor does not wait for the examples that the server computes, and they are computed afterwards."""
    monkeypatch.setattr("conjure.app.service.EXAMPLES", (("dog", "cat"),))
    monkeypatch.setattr("conjure.app.limits.DEFAULT_STEPS", 40)
    service = Service(limits=Limits(samples=3, steps=40))
    service.process("default", 1)
    started = threading.Event()
    order: list[str] = []
    compute = TextComparison.answers

    def answers(self, *arguments):
        if self.a == "dog" and not started.is_set():
            started.set()
            while not service._jobs._waiting:  # the visitor arrives while the example is computed
                time.sleep(0.01)
        yield from compute(self, *arguments)
        order.append(self.a)

    monkeypatch.setattr(TextComparison, "answers", answers)
    thread = threading.Thread(target=service.compute_examples)
    thread.start()
    assert started.wait(60)
    list(service.compare("one", "two", ("default", 1, 1, 0, None)))
    thread.join(120)
    assert order == ["one", "dog"]


def test_limits_below_the_default_settings():
    service = Service(limits=Limits(max_chars=8, samples=1, steps=1, max_texts=2))
    service.compute_examples()  # those beyond the limits are skipped
    assert len(service._answers) == 1


def test_drift(service, default_process):
    """The answer has the numbers of `conjure.drift`, and the images; it is cached."""
    arguments = ("a red apple\n\n a black cat ", 5, 3, "", " ", ("default", 2, 2, 1, None))
    answer = service.drift(*arguments)
    a = default_process.set(steps=2)
    expected = conjure.drift(a, a.set(guidance=5.0, steps=3), ["a red apple", "a black cat"], samples=2, seed=1)
    rows = list(csv.DictReader(io.StringIO(answer.csv)))
    assert [row["text"] for row in rows] == [text.text for text in expected.texts]
    assert [float(row["divergence"]) for row in rows] == pytest.approx(
        [text.divergence.value for text in expected.texts], rel=1e-4
    )
    mean = expected.summary["relative"].mean.as_percentage()
    page = html.unescape(answer.body)
    assert f"Process B differs from process A by {mean}% of the distance between a text and the empty text" in page
    assert "A: steps 2, guidance" in page
    assert page.count("<img") == 1  # the final images of both processes
    assert "Final images from the same noise" in page
    assert service.drift(*arguments) is answer


@pytest.mark.parametrize(
    ("other", "label"),
    [((None, None, "bfloat16", None), "dtype bfloat16"), (("", "", None, "red things"), "negative_prompt red things")],
)
def test_drift_of_other_settings(service, other, label):
    answer = service.drift("a red apple", *other, ("default", 1, 1, 0, None))
    assert f"B: {label}" in html.unescape(answer.body)


def test_drift_of_built_in_texts(service):
    answer = service.drift(" \n", None, 1, None, None, ("default", 1, 2, 0, None))
    texts = [row["text"] for row in csv.DictReader(io.StringIO(answer.csv))]
    assert len(texts) == service.limits.max_texts
    groups = built_in_texts()
    assert len({name for name, members in groups.items() if set(texts) & set(members)}) == len(texts)  # of different groups


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one\none", 5, None, None, None), "twice"),
        (("1\n2\n3\n4\n5", 5, None, None, None), "there are 5 texts; at most 4 are allowed"),
        ((["one"], 5, None, None, None), "one text per line"),
        (("x" * 121, 5, None, None, None), "at most 120"),
        (("one", None, "", " ", None), "change at least one setting of B"),
        (("one", None, 2, "float32", None), "change at least one setting of B"),
        (("one", -1, None, None, None), "guidance of B is '-1'"),
        (("one", "five", None, None, None), "guidance of B is 'five'"),
        (("one", "inf", None, None, None), "guidance of B is 'inf'"),
        (("one", None, "2.5", None, None), "steps of B is '2.5'"),
        (("one", True, None, None, None), "guidance of B is 'True'"),
        (("one", float("nan"), None, None, None), "guidance of B is 'nan'"),
        (("one", None, 7, None, None), "steps of B is '7'"),
        (("one", None, None, "../secret", None), "data type of B is '../secret'"),
        (("one", None, None, ["float32"], None), "data type of B is"),
        (("one", None, None, None, "y" * 121), "at most 120"),
        (("one", None, None, None, ["y"]), "a text is not a string"),
        (("one", 1, None, None, "blurry"), "ignores a negative prompt with guidance 1"),
    ],
)
def test_invalid_drifts_are_refused(service, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        service.drift(*arguments, ("default", 1, 2, 0, None))


def test_a_drift_does_not_show_the_path_of_a_model(tiny_sd):
    service = Service((str(tiny_sd),))
    answer = service.drift("cat", 5, None, None, None, (tiny_sd.name, 1, 2, 0, None))
    assert tiny_sd.name in answer.body
    assert str(tiny_sd) not in answer.head + answer.body + answer.csv


@pytest.mark.filterwarnings("ignore::conjure.errors.TextTruncationWarning")
def test_texts_are_no_markup(service):
    comparison = list(service.compare(HOSTILE, "cat", ("default", 1, 1, 0, None)))
    matrix = service.matrix(f"{HOSTILE}\ncat", ("default", 1, 1, 0, None))
    nearest = service.nearest(HOSTILE, f"cat\n{HOSTILE} 2", ("default", 1, 1, 0, None))
    drift = service.drift(f"{HOSTILE}\ncat", 5, None, None, HOSTILE, ("default", 1, 1, 0, None))
    for answer in (*comparison, matrix, nearest, drift):
        tags = set(re.findall(r"<(\w+)", answer.head + answer.body))
        assert tags <= {"p", "a", "figure", "figcaption", "img", "iframe", "div", "table", "thead", "tbody", "tr", "th", "td"}
        assert 'onerror="' not in answer.body
        assert "\u202e" not in answer.head + answer.body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "cat", "default", 1, 1, 0), "empty"),
        (("x" * 121, "cat", "default", 1, 1, 0), "121 characters; at most 120 are allowed"),
        (("dog", None, "default", 1, 1, 0), "not a string"),
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
    a, b, *settings = arguments
    with pytest.raises(InputError, match=re.escape(message)):
        next(service.compare(a, b, (*settings, None)))


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
        service.matrix(lines, ("default", 1, 1, 0, None))


def test_only_runs_of_the_folder_can_be_viewed(service):
    assert service.finished_runs() == ["first", "second <b>"]
    assert "Run first" in service.report("first")
    for name in ("link", "..", "../first", "/etc", "unfinished", "", "first/../second <b>"):
        with pytest.raises(InputError, match="no run"):
            service.report(name)
    with pytest.raises(InputError, match="none yet"):
        Service().report("first")


def test_runs_are_listed_and_compared(tmp_path, default_process):
    """The table has the numbers of the runs, the comparison those of `conjure diff`; neither shows a path of the operator."""
    runs = tmp_path / "runs"
    pairs = from_dataframe(pandas.DataFrame(PAIRS), name="pairs")
    for name, guidance in (("ten", 10.0), ("two", 2.0)):
        conjure.evaluate(default_process.set(steps=1, guidance=guidance), [pairs], out=runs / name)
    summary = json.loads((runs / "two" / "summary.json").read_text())
    summary["process"] |= {
        "model": "/home/me/my-model",
        "lora": [{"name": "/home/me/style.safetensors", "weight": 1.0, "sha256": "0" * 64}],
    }
    (runs / "two" / "summary.json").write_text(json.dumps(summary))
    service = Service(runs=runs)
    rows = service.table_of_runs()
    task = summary["tasks"]["pairs"]
    low, high = task["ci95"]
    assert [row[0] for row in rows] == ["ten", "two"]
    assert rows[1][1:6] == [round(task["spearman"], 1), f"{low:.1f} to {high:.1f}", "pairs", len(pairs), "my-model"]
    page = service.difference("ten", "two")
    expected = conjure.diff(runs / "ten", runs / "two").tasks["pairs"].difference
    assert f"{100 * expected.spearman:+.1f}" in page
    assert "LoRA style.safetensors x 1" in page
    assert "ten minus two" in page
    assert str(tmp_path) not in page
    assert "/home/me" not in page
    with pytest.raises(InputError, match="both runs are 'ten'"):
        service.difference("ten", "ten")
    with pytest.raises(InputError, match="no run"):
        service.difference("ten", "../ten")


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
    assert str(tmp_path) not in service.public_message(error.value)


def test_answers_show_no_path_of_a_model(tmp_path, monkeypatch):
    folder = tmp_path / "tiny <b>"
    monkeypatch.setattr("conjure.app.service.load", lambda model: replace(load("default"), model=model))
    *_, answer = Service((str(folder),)).compare("dog", "cat", ("tiny <b>", 1, 1, 0, None))
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
    *shown, last = service.compare("dog", "cat", (label, 1, 2, 0, None))
    assert all(answer.body.count("<img") == 2 for answer in shown)
    assert html.unescape(last.body).count(element) == 2
    assert "whale" in service.matrix("dog\ncat\nwhale", (label, 1, 2, 0, None)).body
