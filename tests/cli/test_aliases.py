"""Old names of options and commands: the same effect, with one warning on standard error."""

from __future__ import annotations

import json

import pytest
import typer
from typer.core import TyperGroup

from conjure.cli.aliases import OLD_NAMES
from conjure.cli.commands import app

QUICK = ("--samples", 1, "--steps", 1, "--json")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "candidates"
    path.write_text("cat\ndog\n")
    return path


def renamed(old: str, new: str) -> str:
    return f"warning: {old} was renamed to {new}; the old name will be removed in the next release\n"


@pytest.mark.parametrize(
    ("command", "new", "value"),
    [
        (("compare", "red fox", "dog"), "--replace", "red=blue"),
        (("compare", "a", "b"), "--target-relative-error", "0.9"),
        (("nearest", "a"), "--candidates", None),
    ],
)
def test_old_options_have_the_same_effect(conjure_command, tiny_sd, candidates, command, new, value):
    value = candidates if value is None else value
    arguments = (*command, "--model", tiny_sd, *QUICK)
    expected = conjure_command(*arguments, new, value)
    code, out, err = conjure_command(*arguments, OLD_NAMES[new], value)
    assert (code, json.loads(out), err) == (0, json.loads(expected[1]), renamed(OLD_NAMES[new], new))
    assert expected[2] == ""
    assert conjure_command(*arguments, f"{OLD_NAMES[new]}={value}")[1] == out


def test_an_old_option_writes_the_same_file(conjure_command, tiny_sd, tmp_path):
    code, _, err = conjure_command("matrix", "a", "b", "c", "--model", tiny_sd, *QUICK, "--map", tmp_path / "plane.png")
    assert (code, err) == (0, renamed("--map", "--mds"))
    assert (tmp_path / "plane.png").stat().st_size > 1000


def test_old_repeatable_options_can_be_repeated(conjure_command):
    code, _, err = conjure_command("compare", "a", "b", "--instead", "a=c", "--instead", "a=d")
    assert code == 2
    assert err.endswith("--replace is given twice for the word 'a'; give one replacement per word\n")
    assert err.startswith(renamed("--instead", "--replace"))


@pytest.mark.parametrize("command", ["compare", "matrix", "nearest", "bench", "diff", "ablate", "app"])
def test_both_names_are_an_error(conjure_command, command):
    (group,) = [typer.main.get_command(app)]
    assert isinstance(group, TyperGroup)
    new_names = [option.opts[0] for option in group.commands[command].params if option.opts[0] in OLD_NAMES]
    assert new_names
    for new in new_names:
        for first, second in ((new, OLD_NAMES[new]), (OLD_NAMES[new], new)):
            code, out, err = conjure_command(command, first, 1, second, 1)
            assert (code, out) == (2, "")
            assert err == f"error: both {new} and its old name {OLD_NAMES[new]} are given; give {new} only\n"


def test_old_names_are_hidden():
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parameters = [parameter for command in group.commands.values() for parameter in command.params]
    visible = {name for parameter in parameters if not getattr(parameter, "hidden", False) for name in parameter.opts}
    hidden = {name for parameter in parameters if getattr(parameter, "hidden", False) for name in parameter.opts}
    assert hidden == set(OLD_NAMES.values())
    assert set(OLD_NAMES) <= visible


def test_store_look_is_store_info(conjure_command, tiny_sd, tmp_path):
    store = tmp_path / "store"
    assert conjure_command("compare", "a", "b", "--model", tiny_sd, *QUICK, "--store", store)[0] == 0
    code, out, err = conjure_command("store", "look", store, "--json")
    assert (code, out) == (0, conjure_command("store", "info", store, "--json")[1])
    assert err == renamed("conjure store look", "conjure store info")
    assert "look" not in conjure_command("store", "--help")[1]


@pytest.mark.parametrize("command", ["bench", "ablate"])
def test_the_tasks_seven_are_paper_table_1(conjure_command, tmp_path, command):
    _, _, expected = conjure_command(command, "--tasks", "paper-table-1", "--data", tmp_path)
    code, out, err = conjure_command(command, "--tasks", "seven", "--data", tmp_path)
    assert (code, out, err) == (2, "", renamed("--tasks seven", "--tasks paper-table-1") + expected)
    assert expected.startswith("error: ")
