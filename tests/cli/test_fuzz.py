"""Property tests of the command line: every command ends, with a result or with one line that states the problem.

Hypothesis generates options, and generates or corrupts files of pairs, texts, models, runs and stores. Each property is tested
with a few examples, and by a slow test with many. `CONJURE_FUZZ=1000` sets the number of examples of the slow tests and generates
new ones in each run; otherwise the examples are the same in each run. Not covered: the web app, which does not end by itself (see
tests/app), `--compile`, and sizes that take hours.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conjure.cli import main
from conjure.cli.commands import app
from conjure.engine.store_file import is_store_file
from conjure.engine.store_schema import SCHEMA_VERSION

FEW_EXAMPLES = 3
MANY_EXAMPLES = int(os.environ.get("CONJURE_FUZZ", "0"))
DEFAULT_MANY_EXAMPLES = 25
TIMEOUT = 300  # seconds, far more than any of these commands takes

common = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
few = settings(common, max_examples=FEW_EXAMPLES)
many = settings(common, max_examples=MANY_EXAMPLES or DEFAULT_MANY_EXAMPLES, derandomize=not MANY_EXAMPLES)


def quick_and_slow(
    check: Callable[..., None], *explicit_examples: Mapping[str, Any], **strategies: st.SearchStrategy[Any]
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return a quick test of `check` with a few generated examples, and a slow one with many.

    Args:
        check: The property: a function of the generated values and of fixtures.
        explicit_examples: Examples that both tests include, such as former failures.
        strategies: The strategies of the generated values.
    """
    tests = []
    for number_of_examples in (few, many):
        test = number_of_examples(given(**strategies)(check))
        for values in explicit_examples:
            test = example(**values)(test)
        tests.append(test)
    quick, slow = tests
    return quick, pytest.mark.slow(slow)


@pytest.fixture(autouse=True, scope="module")
def isolated_environment() -> Iterator[None]:
    """No default store, and no connection to the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONJURE_STORE", raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def command(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process, check how it ends, and return its exit code, output and errors."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    timeouts = []

    def raise_timeout(*_: Any) -> None:
        timeouts.append(traceback.format_stack())
        raise TimeoutError

    previous_handler = signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(TIMEOUT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_info:
            main(list(arguments))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous_handler)
        gc.unfreeze()  # a command excludes all objects that exist at its start from garbage collection
    assert not timeouts, "".join(timeouts[0])
    code = exit_info.value.code
    output, errors = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    assert code in (0, 1, 2), (code, errors)
    assert "Traceback" not in output + errors
    if code == 2:
        assert output == "" or arguments[0] == "check", output  # check prints each result when it is known
        *_, last_line = errors.split("\n")[:-1]  # warnings and the plan of a run may precede it
        assert last_line.startswith("error: "), errors
        assert errors.count("\nerror: ") <= 1, errors
    assert isinstance(code, int)
    return code, output, errors


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """Context manager that changes to an empty temporary folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name)


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Context manager that checks that all files in a folder exist afterwards with the same contents."""
    before = contents(folder)
    yield
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before


# Corruption of bytes and of JSON


@dataclass(frozen=True)
class CorruptBytes:
    """Truncates a file at a position, overwrites or inserts bytes there, or replaces the content. position: a fraction."""

    kind: str
    position: float
    new: bytes

    def __call__(self, content: bytes) -> bytes:
        index = int(self.position * len(content))
        before, after = content[:index], content[index:]
        return {
            "truncate": before,
            "overwrite": before + self.new + after[len(self.new) :],
            "insert": before + self.new + after,
            "replace": self.new,
        }[self.kind]


CORRUPT_BYTES = st.builds(
    CorruptBytes,
    st.sampled_from(("truncate", "overwrite", "insert", "replace")),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=64),
)

# Integers that may become sizes of a network are small: a large model is not an error of the command
SCALARS = st.none() | st.booleans() | st.integers(-2, 40) | st.floats() | st.text(max_size=8) | st.sampled_from(
    ("", "default", "cpu", "AutoModel", "epsilon", "flow_prediction", "../..", "/", "\0")
)  # fmt: skip
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@dataclass(frozen=True)
class CorruptJson:
    """Changes a JSON file, which remains JSON: sets a value at the end of a path, deletes it, or adds one as `name`."""

    kind: str
    path: list[int]
    name: str
    value: Any

    def __call__(self, content: bytes) -> bytes:
        document = parent = json.loads(content)
        if not document:
            return content
        for number in self.path:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            key = keys[number % len(keys)]
            if not isinstance(parent[key], dict | list) or not parent[key]:
                break
            grandparent, parent = parent, parent[key]
        else:
            parent = grandparent
        if self.kind == "delete":
            del parent[key]
        elif self.kind == "set" or isinstance(parent, list):
            parent[key] = self.value
        else:
            parent[self.name] = self.value
        return json.dumps(document).encode()


CORRUPT_JSON = st.builds(
    CorruptJson,
    st.sampled_from(("set", "delete", "add")),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.text(max_size=8),
    JSON_VALUES,
)
DELETED = "deleted"  # instead of a corruption: the file is deleted


def corrupt(path: Path, corruption: Callable[[bytes], bytes]) -> None:
    path.write_bytes(corruption(path.read_bytes()))


def corrupt_files(folder: Path, corruptions: Sequence[tuple[str, Any]]) -> None:
    """Apply corruptions to files of a folder, in order."""
    for name, corruption in corruptions:
        if corruption == DELETED:
            (folder / name).unlink(missing_ok=True)
        elif (folder / name).exists():
            with contextlib.suppress(ValueError):  # a file that an earlier corruption made invalid JSON
                corrupt(folder / name, corruption)


# Options

NUMBERS = st.sampled_from(("1", "2", "3")) | st.sampled_from(
    ("", "0", "-1", "nan", "inf", "-inf", "1e308", "-0", "0.5", "1001", "two", "٣", "1_0", "0x1", "9" * 40, "-1e40", "1e-320")
)  # fmt: skip
# Arguments that a shell can pass: no null character; and no path out of the folder
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
PATH_VALUES, NAME_VALUES, LIST_VALUES = (TEXTS | st.sampled_from(values) for values in (FILES, NAMES, LISTS))
VALUES_OF = {
    **dict.fromkeys(("figure", "mds", "file", "candidates", "data", "out", "store", "model"), PATH_VALUES),
    **dict.fromkeys(("scheduler", "divergence", "weighting", "unit", "reduction", "device", "dtype"), NAME_VALUES),
    **dict.fromkeys(("replace", "tasks", "baseline", "vary"), LIST_VALUES),
    # smaller relative errors take long
    "target_relative_error": st.sampled_from(("0.9", "-1", "0", "nan", "inf", "1e308", "", "x")),
}
QUICK = ("--model", "MODEL", "--steps", "1", "--samples", "1")
VALID_COMMANDS = (
    ("compare", "a", "b", *QUICK), ("compare", "a b", "a c", "--words", *QUICK), ("matrix", "a", "b", "c", *QUICK),
    ("matrix", "--file", "texts.txt", *QUICK), ("nearest", "a", "--candidates", "texts.txt", *QUICK),
    ("check", "MODEL", "--steps", "2"),
    ("bench", "--data", "pairs.tsv", *QUICK), ("ablate", "--data", "pairs.tsv", *QUICK), ("diff", "run", "run"),
    ("store", "info", "s"), ("store", "look", "s"), ("store", "verify", "s"), ("store", "repair", "s"),
    ("store", "prune", "s", "0"), ("store", "export", "s", "x.parquet"), ("store", "export", "s", "nowhere/x.parquet"),
    ("store",), (),
)  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Generate a valid command with some of its options, hidden ones included, and sometimes with an invalid word."""
    line = list(draw(st.sampled_from(VALID_COMMANDS)))
    current = typer.main.get_command(app)
    for word in line[: 2 if line[:1] == ["store"] else 1]:
        current = current.commands[word]  # type: ignore[attr-defined]
    options = [
        parameter for parameter in current.params
        if parameter.opts[0].startswith("--") and parameter.name != "compiled"  # compilation takes minutes
    ]  # fmt: skip
    for option in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        line.append(option.opts[0])
        if not option.is_flag:  # type: ignore[attr-defined]
            name = getattr(option, "renamed", option).name
            line.append(draw(VALUES_OF.get(str(name), NUMBERS)))
    if draw(st.integers(0, 3)) == 0:
        line.insert(draw(st.integers(0, len(line))), draw(TEXTS | st.sampled_from(("--nope", "--help", "--version"))))
    return line


MATRIX_TEXTS = ("dog", "cat", "whale")


@pytest.fixture(scope="module")
def inputs(tiny_sd, tmp_path_factory) -> Path:
    """A folder with one of each input of a command: texts, pairs, a run and a store."""
    folder = tmp_path_factory.mktemp("inputs")
    with contextlib.chdir(folder):
        Path("texts.txt").write_text("dog\ncat\n\nwhale\n")
        Path("pairs.tsv").write_text("text1\ttext2\tscore\n" + "".join(f"thing {i}\tthis {i * i}\t{i % 3}\n" for i in range(4)))
        quick = ("--model", str(tiny_sd), "--steps", "1")
        assert command("bench", "--data", "pairs.tsv", "--out", "run", *quick)[0] == 0
        Path("matrix.json").write_text(command("matrix", *MATRIX_TEXTS, "--store", "s", "--samples", "1", "--json", *quick)[1])
        with contextlib.closing(sqlite3.connect("s")) as database:  # a command's own connection is closed when its process ends
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def check_command_line(line: list[str], inputs: Path, tiny_sd: Path) -> None:
    """Any command line ends properly, and no command changes its input files."""
    with working_folder() as folder:
        shutil.copytree(inputs, folder, dirs_exist_ok=True)
        with unchanged(tiny_sd):
            command(*(str(tiny_sd) if word == "MODEL" else word for word in line))
        after = contents(folder)
        for name, content in contents(inputs).items():
            if name in ("texts.txt", "pairs.tsv") or name.startswith("run/"):
                assert after[name] == content


test_command_lines, test_many_command_lines = quick_and_slow(
    check_command_line,
    {"line": ["compare", "a", "b", "--model", "word " * 200]},
    {"line": ["bench", "--data", "x" * 300]},
    {"line": ["store", "export", "s", "nowhere/x.parquet"]},
    {"line": ["matrix", "a", "b", *QUICK, "--ray", "127.0.0.1:1"]},
    {"line": ["matrix", "a", "b", *QUICK, "--ray", "127.0.0.1:x"]},
    line=command_lines(),
)


# Files of pairs and of texts

CELLS = st.text(max_size=12) | st.sampled_from(
    ("1", "2.5", "nan", "inf", "-1e400", " ", "", "\0", "a\0b", '"', '"a', "a,b", "\ufeff", "\x85", "\u2028", "\x0c", "\r", "🐆",
     "ﷺ" * 40, "<b>", "$x_1$", "[red]", "\ud7ff", "word " * 5000)
)  # fmt: skip
SEPARATORS, LINE_ENDS = st.sampled_from(("\t", ",", ";", "|", " ")), st.sampled_from(("\n", "\r\n", "\r", "\n\n"))
HEADERS = st.sampled_from(
    (("sentence1", "sentence2", "score"), ("score", "word1", "word2"), ("a", "b", "score", "c"), ("score", "score", "a"),
     ("a", "score"), ("", "Text_A", "text b", "Rating"))
)  # fmt: skip
ENCODINGS = st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Generate a file of pairs as other programs write them, or with small errors."""
    header = draw(HEADERS)
    any_row = st.lists(CELLS, min_size=len(header), max_size=len(header))
    valid_row = st.tuples(*(st.integers(0, 5).map(str) if name == "score" else CELLS for name in header))
    rows = draw(st.lists(valid_row | any_row if draw(st.booleans()) else valid_row, min_size=2, max_size=5))
    table = [list(header), *map(list, rows)]
    if draw(st.integers(0, 3)) == 0:
        return json.dumps([dict(zip(header, row, strict=True)) for row in rows]).encode()
    separator, line_end = (draw(st.just("\t") | SEPARATORS), draw(st.just("\n") | LINE_ENDS))
    return line_end.join(separator.join(row) for row in table).encode(draw(st.just("utf-8") | ENCODINGS), "replace")


PARQUET = b"PAR1\x15\x04\x15\x10\x15\x14L\x15\x02\x15\x00\x12\x00\x00PAR1"
PAIRS = st.integers(0, 7).flatmap(lambda choice: st.binary(max_size=200) | st.just(PARQUET) if choice == 7 else tables())


def check_pairs(content: bytes, suffix: str, inputs: Path, tiny_sd: Path) -> None:
    """`bench` handles any file of pairs."""
    with working_folder() as folder:
        Path(f"pairs{suffix}").write_bytes(content)
        with unchanged(folder):
            command("bench", "--data", f"pairs{suffix}", "--model", str(tiny_sd), "--steps", "1", "--out", "new")


test_pairs, test_many_pairs = quick_and_slow(
    check_pairs,
    {"content": "\ufeffscore\ttext1\ttext2\n".encode() + b"1\tx\ty\n" * 3, "suffix": ".tsv"},
    content=PAIRS,
    suffix=st.sampled_from((".tsv", ".csv", ".jsonl", ".json", ".parquet")),
)


def check_texts(content: bytes, arguments: tuple[str, ...], tiny_sd: Path) -> None:
    """`matrix` and `nearest` handle any file of texts."""
    with working_folder() as folder:
        Path("texts").write_bytes(content)
        with unchanged(folder):
            command(*arguments, "texts", "--model", str(tiny_sd), "--steps", "1", "--samples", "1", "--json")


test_texts, test_many_texts = quick_and_slow(
    check_texts, content=PAIRS, arguments=st.sampled_from((("matrix", "--file"), ("nearest", "a", "--candidates")))
)


# Models and runs

MODEL_JSON = ("model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
              "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json", "unet/config.json", "vae/config.json")  # fmt: skip
MODEL_WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


@dataclass(frozen=True)
class CorruptHeader:
    """Changes the header of a safetensors file: its length, or its JSON."""

    length: int | None
    header: CorruptJson

    def __call__(self, content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        if self.length is not None:
            return self.length.to_bytes(8, "little") + content[8:]
        header = self.header(content[8 : 8 + size])
        return len(header).to_bytes(8, "little") + header + content[8 + size :]


CORRUPT_HEADER = st.builds(CorruptHeader, st.none() | st.integers(0, 2**64 - 1), CORRUPT_JSON)
CORRUPT_MODEL = st.tuples(
    st.sampled_from(MODEL_JSON), CORRUPT_JSON | CORRUPT_JSON | CORRUPT_BYTES | st.just(DELETED)
) | st.tuples(st.sampled_from(MODEL_WEIGHTS), CORRUPT_HEADER | CORRUPT_BYTES | st.just(DELETED))


def check_model(corruptions: list[tuple[str, Any]], tiny_sd: Path) -> None:
    """`compare` handles any corrupted model."""
    with working_folder() as folder:
        shutil.copytree(tiny_sd, "model")
        corrupt_files(Path("model"), corruptions)
        with unchanged(folder):
            command("compare", "a", "b", "--model", "model", "--steps", "1", "--samples", "2", "--json")


test_models, test_many_models = quick_and_slow(
    check_model,
    {"corruptions": [("text_encoder/model.safetensors", CorruptBytes("truncate", 0.0, b""))]},
    corruptions=st.lists(CORRUPT_MODEL, min_size=1, max_size=2),
)


RUN_JSON, RUN_BINARY = ("run.json", "summary.json"), ("pairs.parquet", "store.sqlite", "report.html")
CORRUPT_RUN = st.tuples(st.sampled_from(RUN_JSON), CORRUPT_JSON | CORRUPT_JSON | CORRUPT_BYTES | st.just(DELETED)) | st.tuples(
    st.sampled_from(RUN_BINARY), CORRUPT_BYTES | st.just(DELETED)
)


def check_run(corruptions: list[tuple[str, Any]], out: tuple[str, ...], inputs: Path, tiny_sd: Path) -> None:
    """`diff` handles a corrupted run beside a valid one, and `bench` handles its folder."""
    with working_folder() as folder:
        shutil.copytree(inputs, folder, dirs_exist_ok=True)
        shutil.copytree("run", "corrupted")
        corrupt_files(Path("corrupted"), corruptions)
        with unchanged(folder):
            command("diff", "run", "corrupted", *out)
        command("bench", "--data", "pairs.tsv", "--out", "corrupted", "--model", str(tiny_sd), "--steps", "1")
        assert Path("pairs.tsv").read_bytes() == (inputs / "pairs.tsv").read_bytes()


test_runs, test_many_runs = quick_and_slow(
    check_run,
    corruptions=st.lists(CORRUPT_RUN, min_size=1, max_size=2),
    out=st.sampled_from(((), ("--json",), ("--out", "x.html"))),
)


# Stores

READ_COMMANDS = (("info",), ("info", "--json"), ("verify",), ("export", "x.parquet"))


def check_store(corruptions: list[CorruptBytes], log: bytes | None, inputs: Path, tiny_sd: Path) -> None:
    """Commands that read a corrupted store do not change it, `repair` keeps the old file, and then a run succeeds."""
    with working_folder():
        shutil.copy(inputs / "s", "s")
        for corruption in corruptions:
            corrupt(Path("s"), corruption)
        if log is not None:
            Path("s-wal").write_bytes(log)
        read_and_repair(inputs, tiny_sd)


def read_and_repair(inputs: Path, model: Path) -> None:
    """Read the store `s`, run a matrix with it, and repair it if the run fails and it is a store, possibly a damaged one."""
    before = Path("s").read_bytes()
    for name, *arguments in READ_COMMANDS:
        command("store", name, "s", *arguments)
        assert len(before) < 2 or Path("s").read_bytes() == before  # SQLite treats a file of one byte as empty
    run = ("matrix", *MATRIX_TEXTS, "--store", "s", "--samples", "1", "--model", str(model), "--steps", "1", "--json")
    code, output, errors = command(*run)
    if code:
        assert Path("s").read_bytes() == before
        if not is_store_file(Path("s")):
            assert command("store", "repair", "s")[0] == 2
            assert Path("s").read_bytes() == before
            return
        gc.collect()  # closes the store of the failed run in this process, and SQLite then writes its journal to the file
        before = Path("s").read_bytes()
        assert command("store", "repair", "s")[0] == 0
        assert Path("s.broken").read_bytes() == before
        assert command("store", "verify", "s")[0] == 0
        code, output, errors = command(*run)
    assert code == 0, errors
    expected = json.loads((inputs / "matrix.json").read_text())
    np.testing.assert_allclose(json.loads(output)["distance"], expected["distance"], rtol=1e-5)


test_stores, test_many_stores = quick_and_slow(
    check_store,
    {"corruptions": [CorruptBytes("insert", 0.25, b"\0")], "log": None},
    corruptions=st.lists(CORRUPT_BYTES, min_size=1, max_size=3),
    log=st.none() | st.binary(max_size=100),
)


STATEMENTS = (
    "UPDATE process SET settings = ?",
    "UPDATE process SET metadata = ?",
    "UPDATE process SET key = ?",
    "UPDATE process SET crc32 = ?",
    "UPDATE squared_differences SET squared_differences = ?",
    "UPDATE squared_differences SET text = text || ?",
    "UPDATE squared_differences SET crc32 = ?",
    "UPDATE squared_differences SET process = ?",
    "UPDATE final_latents SET latents = ?",
    "UPDATE final_latents SET crc32 = ?",
    "INSERT INTO baseline_distances VALUES (1, 'a', 'b', ?, 0)",
    "DELETE FROM final_latents WHERE text <> ?",
    "DELETE FROM process WHERE key <> ?",
    "DROP TABLE final_latents",
    "DROP TABLE baseline_distances",
    "CREATE TABLE other (a)",
    "CREATE VIEW v AS SELECT * FROM squared_differences",
    "CREATE TRIGGER t AFTER INSERT ON final_latents BEGIN DELETE FROM squared_differences; END",
    "ALTER TABLE squared_differences RENAME COLUMN squared_differences TO other",
    "PRAGMA user_version = 7",
)
SQL_VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20) | st.binary(max_size=80)


def check_store_contents(changes: list[tuple[str, Any]], inputs: Path, tiny_sd: Path) -> None:
    """The same for changed contents or tables in a database that is valid for SQLite."""
    with working_folder():
        shutil.copy(inputs / "s", "s")
        with contextlib.closing(sqlite3.connect("s", isolation_level=None)) as database:
            for statement, value in changes:
                with contextlib.suppress(sqlite3.Error):  # constraints forbid some values
                    database.execute(statement, (value,) if "?" in statement else ())
        read_and_repair(inputs, tiny_sd)


test_store_contents, test_many_store_contents = quick_and_slow(
    check_store_contents,
    {"changes": [("UPDATE process SET settings = ?", "corrupted")]},
    {"changes": [("DELETE FROM process WHERE key <> ?", "")]},
    {"changes": [("ALTER TABLE squared_differences RENAME COLUMN squared_differences TO other", None)]},
    changes=st.lists(st.tuples(st.sampled_from(STATEMENTS), SQL_VALUES), min_size=1, max_size=3),
)


def check_other_database(tables: list[str], version: int, arguments: tuple[str, ...], tiny_sd: Path) -> None:
    """The database of another program is not changed, whatever its version number is."""
    with working_folder():
        with contextlib.closing(sqlite3.connect("s", isolation_level=None)) as database:
            for table in tables:
                database.execute(f"CREATE TABLE {table} (a)")
                database.execute(f"INSERT INTO {table} VALUES ('valuable')")
            database.execute(f"PRAGMA user_version = {version}")
        before = Path("s").read_bytes()
        for line in (
            ("store", arguments[0], "s", *arguments[1:]),
            ("compare", "a", "b", "--store", "s", "--model", str(tiny_sd), "--steps", "1"),
        ):
            command(*line)
            if tables:
                moved = Path("s.broken").read_bytes() if Path("s.broken").exists() else None
                assert before in (Path("s").read_bytes(), moved)


test_other_databases, test_many_other_databases = quick_and_slow(
    check_other_database,
    {"tables": ["process"], "version": SCHEMA_VERSION, "arguments": ("info",)},
    {"tables": ["process", "judged"], "version": SCHEMA_VERSION - 1, "arguments": ("info",)},
    tables=st.lists(
        st.sampled_from(("process", "squared_differences", "mine", "final_latents", "judged")), max_size=3, unique=True
    ),
    version=st.sampled_from((0, SCHEMA_VERSION - 1, SCHEMA_VERSION, 7)),
    arguments=st.sampled_from((*READ_COMMANDS, ("prune", "0"), ("repair",))),
)
