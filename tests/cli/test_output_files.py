"""Output files of commands that cannot be written after the computation: the result is printed, then one line says why."""

from __future__ import annotations

import json

import pytest

from conjure.cli.output_files import files_after_output, result_and_writer
from conjure.errors import InputError, OutputError

QUICK = ("--steps", 1, "--samples", 2)
PAIRS = "text1\ttext2\tscore\nred\tblue\t1\ncat\tdog\t2\nsun\tmoon\t3\n"


@pytest.fixture
def full_disk(monkeypatch):
    """Files can be opened, and not be written."""

    def raise_disk_full(*args):
        raise OSError(28, "No space left on device")

    return lambda: monkeypatch.setattr("os.replace", raise_disk_full)


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a", "b", "--figure", "x.png"),
        ("compare", "a", "b", "--figure", "x.html", "--json"),
        ("matrix", "a", "b", "c", "--figure", "x.svg", "--mds", "y.png"),
        ("matrix", "a", "b", "c", "--figure", "x.html", "--csv"),
        ("matrix", "a", "b", "c", "--mds", "x.pdf", "--json"),
    ],
)
def test_figures(conjure_command, tiny_sd, tmp_path, monkeypatch, full_disk, arguments):
    monkeypatch.chdir(tmp_path)
    arguments = (*arguments, "--model", tiny_sd, *QUICK)
    code, expected, _ = conjure_command(*arguments)
    assert code == 0
    files = sorted(path.name for path in tmp_path.iterdir())
    for name in files:
        (tmp_path / name).unlink()
    full_disk()
    code, out, err = conjure_command(*arguments)
    assert (code, err.count("\n")) == (1, 1)
    for name in files:
        assert f"'{name}' cannot be written: No space left on device; free some space" in err
    assert out.splitlines() == [line for line in expected.splitlines() if "wrote" not in line]
    assert out
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_deleted_meanwhile_is_a_failure(conjure_command, tiny_sd, tmp_path, monkeypatch):
    """The path was valid when it was checked."""
    import shutil

    import conjure

    folder = tmp_path / "folder"
    folder.mkdir()
    compute = conjure.matrix

    def compute_and_delete(*args, **kwargs):
        result = compute(*args, **kwargs)
        shutil.rmtree(folder)
        return result

    monkeypatch.setattr("conjure.matrix", compute_and_delete)
    code, out, err = conjure_command("matrix", "a", "b", "--csv", "--figure", folder / "x.png", "--model", tiny_sd, *QUICK)
    assert (code, out.splitlines()[0], err.count("\n")) == (1, ",a,b,stderr: a,stderr: b", 1)
    assert "lies in a folder that does not exist" in err


@pytest.mark.parametrize("command", ["bench", "ablate"])
@pytest.mark.parametrize("as_json", [False, True])
def test_run_folders(conjure_command, tiny_sd, tmp_path, pairs, command, as_json):
    """A folder has the name of a file, so that it cannot be replaced."""
    arguments = (command, "--data", pairs, "--model", tiny_sd, *QUICK, *(["--json"] if as_json else []))
    code, expected, err = conjure_command(*arguments, "--out", tmp_path / "new")
    assert (code, f"wrote {tmp_path / 'new'}" in err) == (0, True)
    report = tmp_path / "run" / ("report.html" if command == "bench" else "ablation.html")
    report.mkdir(parents=True)
    code, out, err = conjure_command(*arguments, "--out", tmp_path / "run")
    last_line = err.splitlines()[-1]
    assert (code, out) == (1, expected)
    assert last_line.startswith(f"error: '{report}' cannot be written: ")
    assert "wrote" not in err
    if as_json:
        json.loads(out)


def test_the_error_of_a_run_folder_has_the_result(tiny_sd, tmp_path, pairs):
    import conjure

    process = conjure.load(tiny_sd, steps=1)
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written") as error:
        conjure.evaluate(process, [conjure.read_pairs(pairs)], out=tmp_path / "run")
    assert isinstance(error.value.result, conjure.Evaluation)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("suffix", ["html", "md"])
def test_comparisons(conjure_command, tiny_sd, tmp_path, pairs, full_disk, suffix, as_json):
    run = tmp_path / "run"
    assert conjure_command("bench", "--data", pairs, "--model", tiny_sd, "--steps", 1, "--out", run)[0] == 0
    arguments = ("diff", run, run, "--out", tmp_path / f"x.{suffix}", *(["--json"] if as_json else []))
    code, expected, err = conjure_command(*arguments)
    assert (code, err) == (0, f"wrote {tmp_path / 'x'}.{suffix}\n")
    full_disk()
    code, out, err = conjure_command(*arguments)
    assert (code, out, err.count("\n")) == (1, expected, 1)
    assert "cannot be written: No space left on device" in err


def test_files_are_written_even_if_the_result_cannot_be_printed():
    written: list[str] = []
    announced: list[str] = []
    with pytest.raises(BrokenPipeError), files_after_output([("a", written.append), ("b", written.append)], announced.append):
        raise BrokenPipeError
    assert (written, announced) == (["a", "b"], [])
    with files_after_output([("a", written.append)], announced.append):
        pass
    assert announced == ["wrote a"]


def test_each_file_that_cannot_be_written_is_named():
    def refuse(path):
        raise InputError(f"{path} is refused")

    written: list[str] = []
    files = [("a", refuse), ("b", refuse), ("c", written.append)]
    with pytest.raises(OutputError, match="^a is refused; b is refused$"), files_after_output(files):
        pass
    assert written == ["c"]


def test_errors_without_a_result_are_raised_immediately():
    def fail():
        raise OutputError("no space")

    with pytest.raises(OutputError, match="no space"):
        result_and_writer(fail)


def test_two_figures_need_two_files(conjure_command, tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "x.png")
    for second in (tmp_path / "x.png", tmp_path / "link.png"):
        code, out, err = conjure_command("matrix", "a", "b", "--figure", tmp_path / "x.png", "--mds", second)
        assert (code, out, err) == (2, "", f"error: both --figure and --mds are {str(second)!r}; name two files\n")
