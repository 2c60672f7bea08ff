"""Whatever is given to the command, it ends: with an answer, or with one line that says what is wrong. Nothing given is lost.

Options, files of pairs and texts, models, runs and stores are made up or damaged by Hypothesis. `CONJURE_FUZZ=1000` tries so
many examples of each, other ones every time; the usual few are the same in every run. The web app, which serves until it is
stopped, is not among them (tests/test_app.py), nor are `--compile` and sizes that any command would take hours for.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conjure.cli import app, main
from conjure.store import LAYOUT

EXAMPLES = int(os.environ.get("CONJURE_FUZZ", "0"))
HANGS = 300  # seconds: far more than any of these commands takes anywhere

fuzz = settings(
    max_examples=EXAMPLES or 25, derandomize=not EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """No store of the environment, and no way to the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONJURE_STORE", raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def command(*arguments: str) -> tuple[int, str, str]:
    """Run the command here: exit code, output, errors. Fails for what is no way to end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    hung = []

    def give_up(*_: Any) -> None:
        hung.append(traceback.format_stack())
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANGS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(list(arguments))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        gc.unfreeze()  # a command never looks for garbage in what was there when it began, of which there are many here
    assert not hung, "".join(hung[0])
    code, (told, said) = ended.value.code, (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    assert code in (0, 1, 2), (code, said)
    assert "Traceback" not in told + said
    if code == 2:
        assert told == "" or arguments[0] == "check", told  # which tells one by one what it finds
        *_, error = said.split("\n")[:-1]  # before it stand warnings, and what a run tells of its plan
        assert error.startswith("error: "), said
        assert said.count("\nerror: ") <= 1, said
    return code, told, said


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder to work in."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """What lies in `folder` is there afterwards, byte for byte."""
    before = held(folder)
    yield
    after = held(folder)
    assert {name: after.get(name) for name in before} == before


# Damage: to bytes, and to what JSON tells


@dataclass(frozen=True)
class Bytes:
    """A file cut short, with `new` in the place of other bytes or between them, or that is `new` alone. place: a share of it."""

    kind: str
    place: float
    new: bytes

    def __call__(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        before, after = content[:at], content[at:]
        return {
            "cut": before,
            "overwrite": before + self.new + after[len(self.new) :],
            "insert": before + self.new + after,
            "replace": self.new,
        }[self.kind]


DAMAGE = st.builds(
    Bytes, st.sampled_from(("cut", "overwrite", "insert", "replace")), st.floats(0, 1), st.binary(min_size=1, max_size=64)
)

# Numbers that a network could be made with stay small: that a model may be large is no fault of the command
PLAIN = st.none() | st.booleans() | st.integers(-2, 40) | st.floats() | st.text(max_size=8) | st.sampled_from(
    ("", "default", "cpu", "AutoModel", "epsilon", "flow_prediction", "../..", "/", "\0")
)  # fmt: skip
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3))


@dataclass(frozen=True)
class Json:
    """A file that is still JSON: at the end of a `way` through it, `value` is set, one is deleted, or `value` added as `name`."""

    kind: str
    way: list[int]
    name: str
    value: Any

    def __call__(self, content: bytes) -> bytes:
        told = parent = json.loads(content)
        if not told:
            return content
        for step in self.way:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            key = keys[step % len(keys)]
            if not isinstance(parent[key], dict | list) or not parent[key]:
                break
            grown, parent = parent, parent[key]
        else:
            parent = grown
        if self.kind == "delete":
            del parent[key]
        elif self.kind == "set" or isinstance(parent, list):
            parent[key] = self.value
        else:
            parent[self.name] = self.value
        return json.dumps(told).encode()


OTHER_JSON = st.builds(Json, st.sampled_from(("set", "delete", "add")), st.lists(st.integers(0, 40), min_size=1, max_size=4),
                       st.text(max_size=8), VALUES)  # fmt: skip


def spoil(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))


# Options

NUMBERS = st.sampled_from(("1", "2", "3")) | st.sampled_from(
    ("", "0", "-1", "nan", "inf", "-inf", "1e308", "-0", "0.5", "1001", "two", "٣", "1_0", "0x1", "9" * 40, "-1e40", "1e-320")
)  # fmt: skip
# What a shell can hand over: no null, and no path out of the folder
TEXTS = st.text(st.characters(exclude_characters="\0/"), max_size=12) | st.sampled_from(
    ("", " ", "a", "ein Löwe", "\udcff", "[red]x[/]", "$x_1$", "a\nb", "🐆" * 90, "--", "-", "word " * 200, "\u202e", "\x1b[2J")
)  # fmt: skip
NAMES = ("jeffreys", "kl", "initial", "final", "direct", "uniform", "girsanov", "output", "epsilon", "x0", "score", "velocity",
         "mean", "lms", "ddim", "euler", "own", "heun", "pndm", "ddpm", "unipcmultistep", "cpu", "meta", "float32", "bfloat16",
         "float16")  # fmt: skip
FILES = (".", "..", "pairs.tsv", "texts.txt", "s", "run", "new", "x.png", "x.svg", "x.pdf", "x.html", "x.md", "x.parquet",
         "nowhere/x.png", "x" * 300)  # fmt: skip
LISTS = ("prior", "samples", "weighting", "steps=1,2", "steps=", "guidance=1,x", "scheduler=lms,own", "size=16,32",
         "model=nowhere", "encoder", "random", "sentence:nowhere", "pictures", "stsb", "a=b", "b=", "=a")  # fmt: skip
PATHS, KINDS, SEVERAL = (TEXTS | st.sampled_from(known) for known in (FILES, NAMES, LISTS))
VALUES_OF = {
    **dict.fromkeys(("figure", "plane", "file", "among", "data", "out", "store", "model"), PATHS),
    **dict.fromkeys(("scheduler", "divergence", "weighting", "unit", "reduction", "device", "dtype"), KINDS),
    **dict.fromkeys(("instead", "tasks", "baseline", "over"), SEVERAL),
    "precision": st.sampled_from(("0.9", "-1", "0", "nan", "inf", "1e308", "", "x")),  # smaller ones take their time
}
QUICK = ("--model", "MODEL", "--steps", "1", "--samples", "1")
STARTS = (
    ("compare", "a", "b", *QUICK), ("compare", "a b", "a c", "--words", *QUICK), ("matrix", "a", "b", "c", *QUICK),
    ("matrix", "--file", "texts.txt", *QUICK), ("nearest", "a", "--among", "texts.txt", *QUICK),
    ("check", "MODEL", "--steps", "2"),
    ("bench", "--data", "pairs.tsv", *QUICK), ("ablate", "--data", "pairs.tsv", *QUICK), ("diff", "run", "run"),
    ("store", "look", "s"), ("store", "verify", "s"), ("store", "repair", "s"), ("store", "prune", "s", "0"),
    ("store", "export", "s", "x.parquet"), ("store", "export", "s", "nowhere/x.parquet"),
    ("store",), (),
)  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command that works, with some of its options, and at times words of which it knows nothing."""
    told = list(draw(st.sampled_from(STARTS)))
    known = typer.main.get_command(app)
    for word in told[: 2 if told[:1] == ["store"] else 1]:
        known = known.commands[word]  # type: ignore[attr-defined]
    options = [one for one in known.params if one.opts[0].startswith("--") and one.name != "compiled"]  # takes minutes
    for option in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        told.append(option.opts[0])
        if not option.is_flag:  # type: ignore[attr-defined]
            told.append(draw(VALUES_OF.get(str(option.name), NUMBERS)))
    if draw(st.integers(0, 3)) == 0:
        told.insert(draw(st.integers(0, len(told))), draw(TEXTS | st.sampled_from(("--nope", "--help", "--version"))))
    return told


DOGS = ("dog", "cat", "whale")


@pytest.fixture(scope="session")
def inputs(tiny_sd, tmp_path_factory) -> Path:
    """A folder with one of everything that a command reads: texts, pairs, a run, a store."""
    folder = tmp_path_factory.mktemp("inputs")
    with contextlib.chdir(folder):
        Path("texts.txt").write_text("dog\ncat\n\nwhale\n")
        Path("pairs.tsv").write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tthis {i * i}\t{i % 3}\n" for i in range(4)))
        quick = ("--model", str(tiny_sd), "--steps", "1")
        assert command("bench", "--data", "pairs.tsv", "--out", "run", *quick)[0] == 0
        Path("matrix.json").write_text(command("matrix", *DOGS, "--store", "s", "--samples", "1", "--json", *quick)[1])
        with contextlib.closing(sqlite3.connect("s")) as database:  # the command's own is closed when its process ends
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@fuzz
@given(line=command_lines())
@example(line=["compare", "a", "b", "--model", "word " * 200])
@example(line=["bench", "--data", "x" * 300])
@example(line=["store", "export", "s", "nowhere/x.parquet"])
@example(line=["matrix", "a", "b", *QUICK, "--ray", "127.0.0.1:1"])
@example(line=["matrix", "a", "b", *QUICK, "--ray", "127.0.0.1:x"])
def test_options(line, inputs, tiny_sd):
    with workplace() as place:
        shutil.copytree(inputs, place, dirs_exist_ok=True)
        with kept(tiny_sd):
            command(*(str(tiny_sd) if one == "MODEL" else one for one in line))
        after = held(place)
        for name, content in held(inputs).items():
            if name in ("texts.txt", "pairs.tsv") or name.startswith("run/"):
                assert after[name] == content


# Files of pairs and of texts

CELLS = st.text(max_size=12) | st.sampled_from(
    ("1", "2.5", "nan", "inf", "-1e400", " ", "", "\0", "a\0b", '"', '"a', "a,b", "\ufeff", "\x85", "\u2028", "\x0c", "\r", "🐆",
     "ﷺ" * 40, "<b>", "$x_1$", "[red]", "\ud7ff", "word " * 5000)
)  # fmt: skip
SEPARATORS, LINES = st.sampled_from(("\t", ",", ";", "|", " ")), st.sampled_from(("\n", "\r\n", "\r", "\n\n"))
HEADS = st.sampled_from(
    (("sentence1", "sentence2", "score"), ("score", "word1", "word2"), ("a", "b", "score", "c"), ("score", "score", "a"),
     ("a", "score"))
)  # fmt: skip
ENCODINGS = st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A file of pairs as other programs write them, or nearly so."""
    head = draw(HEADS)
    row = st.lists(CELLS, min_size=len(head), max_size=len(head))
    fit = st.tuples(*(st.integers(0, 5).map(str) if name == "score" else CELLS for name in head))
    rows = draw(st.lists(fit | row if draw(st.booleans()) else fit, min_size=2, max_size=5))
    table = [list(head), *map(list, rows)]
    if draw(st.integers(0, 3)) == 0:
        return json.dumps([dict(zip(head, one, strict=True)) for one in rows]).encode()
    separator, line = (draw(st.just("\t") | SEPARATORS), draw(st.just("\n") | LINES))
    return line.join(separator.join(row) for row in table).encode(draw(st.just("utf-8") | ENCODINGS), "replace")


PARQUET = b"PAR1\x15\x04\x15\x10\x15\x14L\x15\x02\x15\x00\x12\x00\x00PAR1"
PAIRS = st.integers(0, 7).flatmap(lambda one: st.binary(max_size=200) | st.just(PARQUET) if one == 7 else tables())


@fuzz
@given(content=PAIRS)
@example(content="\ufeffscore\ta\tb\n".encode() + b"1\tx\ty\n" * 3)
def test_pairs(content, inputs, tiny_sd):
    with workplace() as place:
        Path("mine.tsv").write_bytes(content)
        with kept(place):
            command("bench", "--data", "mine.tsv", "--model", str(tiny_sd), "--steps", "1", "--out", "new")


@fuzz
@given(content=PAIRS, command_of=st.sampled_from((("matrix", "--file"), ("nearest", "a", "--among"))))
def test_texts(content, command_of, tiny_sd):
    with workplace() as place:
        Path("texts").write_bytes(content)
        with kept(place):
            command(*command_of, "texts", "--model", str(tiny_sd), "--steps", "1", "--samples", "1", "--json")


# Models and runs

BASE = ("model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json",
        "tokenizer/tokenizer.json", "unet/config.json", "vae/config.json")  # fmt: skip
WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


@dataclass(frozen=True)
class Header:
    """A safetensors file that tells something else of its tensors, or of the `length` of what it tells."""

    length: int | None
    told: Json

    def __call__(self, content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        if self.length is not None:
            return self.length.to_bytes(8, "little") + content[8:]
        told = self.told(content[8 : 8 + size])
        return len(told).to_bytes(8, "little") + told + content[8 + size :]


HEADER = st.builds(Header, st.none() | st.integers(0, 2**64 - 1), OTHER_JSON)
GONE = "gone"  # a file is taken away
SPOILT_MODEL = st.tuples(st.sampled_from(BASE), OTHER_JSON | OTHER_JSON | DAMAGE | st.just(GONE)) | st.tuples(
    st.sampled_from(WEIGHTS), HEADER | DAMAGE | st.just(GONE)
)


@fuzz
@given(spoilt=st.lists(SPOILT_MODEL, min_size=1, max_size=2))
@example(spoilt=[("text_encoder/model.safetensors", Bytes("cut", 0.0, b""))])
def test_models(spoilt, tiny_sd):
    with workplace() as place:
        shutil.copytree(tiny_sd, "model")
        ruin(Path("model"), spoilt)
        with kept(place):
            command("compare", "a", "b", "--model", "model", "--steps", "1", "--samples", "2", "--json")


def ruin(folder: Path, spoilt: list[tuple[str, Any]]) -> None:
    for name, damage in spoilt:
        if damage == GONE:
            (folder / name).unlink(missing_ok=True)
        elif (folder / name).exists():
            with contextlib.suppress(ValueError):  # what is no JSON any more stays as it is
                spoil(folder / name, damage)


JSON_OF_RUN, TABLE_OF_RUN = ("run.json", "summary.json"), ("pairs.parquet", "store.sqlite", "report.html")
SPOILT_RUN = st.tuples(st.sampled_from(JSON_OF_RUN), OTHER_JSON | OTHER_JSON | DAMAGE | st.just(GONE)) | st.tuples(
    st.sampled_from(TABLE_OF_RUN), DAMAGE | st.just(GONE)
)


@fuzz
@given(spoilt=st.lists(SPOILT_RUN, min_size=1, max_size=2), out=st.sampled_from(((), ("--json",), ("--out", "x.html"))))
def test_runs(spoilt, out, inputs, tiny_sd):
    """A spoilt run beside a sound one; and a run that goes on there."""
    with workplace() as place:
        shutil.copytree(inputs, place, dirs_exist_ok=True)
        shutil.copytree("run", "spoilt")
        ruin(Path("spoilt"), spoilt)
        with kept(place):
            command("diff", "run", "spoilt", *out)
        command("bench", "--data", "pairs.tsv", "--out", "spoilt", "--model", str(tiny_sd), "--steps", "1")
        assert Path("pairs.tsv").read_bytes() == (inputs / "pairs.tsv").read_bytes()


# Stores

LOOKS = (("look",), ("look", "--json"), ("verify",), ("export", "x.parquet"))


@fuzz
@given(spoilt=st.lists(DAMAGE, min_size=1, max_size=3), log=st.none() | st.binary(max_size=100))
@example(spoilt=[Bytes("insert", 0.25, b"\0")], log=None)
def test_stores(spoilt, log, inputs, tiny_sd):
    """Bytes of a store are others: to look changes none of them, to repair loses none of them, and a run goes on in the end."""
    with workplace():
        shutil.copy(inputs / "s", "s")
        for damage in spoilt:
            spoil(Path("s"), damage)
        if log is not None:
            Path("s-wal").write_bytes(log)
        look_and_repair(inputs, tiny_sd)


def look_and_repair(inputs: Path, model: Path) -> None:
    before = Path("s").read_bytes()
    for arguments in LOOKS:
        command("store", arguments[0], "s", *arguments[1:])
        assert len(before) < 2 or Path("s").read_bytes() == before  # of one byte is an empty file to SQLite
    run = ("matrix", *DOGS, "--store", "s", "--samples", "1", "--model", str(model), "--steps", "1", "--json")
    code, told, said = command(*run)
    if code:
        assert Path("s").read_bytes() == before
        assert command("store", "repair", "s")[0] == 0
        assert Path("s.broken").read_bytes() == before
        assert command("store", "verify", "s")[0] == 0
        code, told, said = command(*run)
    assert code == 0, said
    np.testing.assert_allclose(
        json.loads(told)["distance"], json.loads((inputs / "matrix.json").read_text())["distance"], rtol=1e-5
    )


STATEMENTS = (
    "UPDATE process SET settings = ?",
    "UPDATE process SET visited = ?",
    "UPDATE process SET key = ?",
    "UPDATE process SET sum = ?",
    "UPDATE judged SET squared = ?",
    "UPDATE judged SET text = text || ?",
    "UPDATE judged SET sum = ?",
    "UPDATE judged SET process = ?",
    "UPDATE final SET latents = ?",
    "UPDATE final SET sum = ?",
    "INSERT INTO compared VALUES (1, 'a', 'b', ?, 0)",
    "DELETE FROM final WHERE text <> ?",
    "DELETE FROM process WHERE key <> ?",
    "DROP TABLE final",
    "DROP TABLE compared",
    "CREATE TABLE other (a)",
    "CREATE VIEW v AS SELECT * FROM judged",
    "CREATE TRIGGER t AFTER INSERT ON final BEGIN DELETE FROM judged; END",
    "ALTER TABLE judged RENAME COLUMN squared TO other",
    "PRAGMA user_version = 7",
)
CONTENTS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20) | st.binary(max_size=80)


@fuzz
@given(changes=st.lists(st.tuples(st.sampled_from(STATEMENTS), CONTENTS), min_size=1, max_size=3))
@example(changes=[("UPDATE process SET settings = ?", "spoilt")])
@example(changes=[("DELETE FROM process WHERE key <> ?", "")])
@example(changes=[("ALTER TABLE judged RENAME COLUMN squared TO other", None)])
def test_contents_of_stores(changes, inputs, tiny_sd):
    """Other content, or other tables, in a store that SQLite takes for sound."""
    with workplace():
        shutil.copy(inputs / "s", "s")
        with contextlib.closing(sqlite3.connect("s", isolation_level=None)) as database:
            for statement, value in changes:
                with contextlib.suppress(sqlite3.Error):  # what its rules forbid
                    database.execute(statement, (value,) if "?" in statement else ())
        look_and_repair(inputs, tiny_sd)


@fuzz
@given(
    tables=st.lists(st.sampled_from(("process", "judged", "mine", "final")), max_size=3, unique=True),
    layout=st.sampled_from((0, LAYOUT, 7)),
    arguments=st.sampled_from((*LOOKS, ("prune", "0"), ("repair",))),
)
@example(tables=["process"], layout=LAYOUT, arguments=("look",))
def test_other_databases(tables, layout, arguments, tiny_sd):
    """A database of another program is left as it is, whatever number it gives its layout."""
    with workplace():
        with contextlib.closing(sqlite3.connect("s", isolation_level=None)) as database:
            for table in tables:
                database.execute(f"CREATE TABLE {table} (mine)")
                database.execute(f"INSERT INTO {table} VALUES ('dear to me')")
            database.execute(f"PRAGMA user_version = {layout}")
        before = Path("s").read_bytes()
        for line in (
            ("store", arguments[0], "s", *arguments[1:]),
            ("compare", "a", "b", "--store", "s", "--model", str(tiny_sd), "--steps", "1"),
        ):
            command(*line)
            if tables:
                assert before in (Path("s").read_bytes(), Path("s.broken").read_bytes() if Path("s.broken").exists() else None)
