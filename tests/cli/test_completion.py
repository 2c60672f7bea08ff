"""The shell completes values of options."""

from __future__ import annotations

import diffusers
import pytest

from conjure.cli.commands import app
from conjure.cli.completion import SCHEDULERS, complete_model, complete_tasks
from conjure.diffusion.schedulers import scheduler_alias


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("compare --divergence ", "jeffreys kl initial final direct"),
        ("matrix --divergence i", "initial"),
        ("distances --divergence k", "kl"),
        ("bench --tasks rg65,sim", "rg65,simlex999"),
        ("compare --scheduler dd", "ddim ddpm"),
        ("compare --model def", "default"),
        ("mat", "matrix"),
    ],
)
def test_values_are_completed(monkeypatch, capsys, line, completed):
    monkeypatch.setenv("_CONJURE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"conjure {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(f"conjure {line}".split(" ")) - 1))
    with pytest.raises(SystemExit) as exit_info:
        app([], prog_name="conjure")
    assert exit_info.value.code == 0
    assert capsys.readouterr().out.split() == completed.split()


def test_names_exist(tmp_path, monkeypatch):
    known = {scheduler_alias(name) for name in dir(diffusers) if name.endswith("Scheduler")}
    assert set(SCHEDULERS) - {"own"} <= known
    (tmp_path / "models").mkdir()
    (tmp_path / "one.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert complete_model("") == ["default", "models", "one.safetensors"]
    assert complete_tasks("rg")[0] == "rg65"
