"""What the help shows, and hints for input that was meant in another way."""

from __future__ import annotations

import pytest

COMMANDS = ((), ("matrix",), ("bench",), ("store",), ("store", "repair"))


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_show_no_type(conjure_command, command):
    code, out, _ = conjure_command(*command, "--help")
    assert (code, "bool" in out, "--help" in out) == (0, False, True)


@pytest.mark.parametrize("arguments", [("compare", "-cat", "dog"), ("matrix", "a", "--snow leopard"), ("nearest", "-5 degrees")])
def test_a_text_that_begins_with_a_hyphen(conjure_command, arguments):
    code, out, err = conjure_command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert 'a text that begins with a hyphen follows two hyphens, after all options: conjure compare --samples 5 -- "-20' in err


@pytest.mark.parametrize("arguments", [("bench", "-x"), ("compare", "a", "b", "--sampels", "3")])
def test_no_hint_where_no_text_was_meant(conjure_command, arguments):
    code, _, err = conjure_command(*arguments)
    assert (code, "begins with a hyphen" in err) == (2, False)


def test_a_mistyped_folder_is_reported_first(conjure_command, tmp_path, monkeypatch):
    """Before anything about the Hub, with the name that was probably meant."""
    (tmp_path / "models" / "sd-15").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name, similar in (("models/sd15", "models/sd-15"), ("./models/sd_15", "models/sd-15"), ("modles", "models")):
        code, out, err = conjure_command("compare", "a", "b", "--model", name)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: there is no folder {name!r} (did you mean {similar!r}?); model {name!r} ")
    code, _, err = conjure_command("compare", "a", "b", "--model", "nothing/here")
    assert err.startswith("error: there is no folder 'nothing/here'; model 'nothing/here' cannot be downloaded")
