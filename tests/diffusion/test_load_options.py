"""Names and weights of LoRAs are parsed, and recorded options give the same options again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from conjure import InputError
from conjure.cli.display import print_store
from conjure.diffusion.load_options import (
    LoadOptions,
    Lora,
    TextualInversion,
    parse_inversions,
    parse_loras,
    summarize_settings,
)
from conjure.engine.store_maintenance import ProcessSummary
from conjure.evaluation.report import describe_process


@pytest.mark.parametrize(
    ("given", "name", "weight"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.5", "style.safetensors", 0.5),
        ("style.safetensors:-1", "style.safetensors", -1.0),
        ("owner/name@refs/pr/1:2e-1", "owner/name@refs/pr/1", 0.2),
        (r"C:\loras\style.safetensors", r"C:\loras\style.safetensors", 1.0),
        (r"C:\loras\style.safetensors:0.25", r"C:\loras\style.safetensors", 0.25),
        ("C:/loras/style.safetensors:0", "C:/loras/style.safetensors", 0.0),
        ("a:b.safetensors", "a:b.safetensors", 1.0),
        (Path("style:3"), "style:3", 1.0),
        (("style:3", 0.5), "style:3", 0.5),
        (Lora("style", 2), "style", 2.0),
    ],
)
def test_names_and_weights(given, name, weight):
    assert parse_loras([given]) == (Lora(name, weight),)
    if not isinstance(given, tuple):
        assert parse_loras(given) == (Lora(name, weight),)


def test_an_existing_file_may_end_like_a_weight(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("style:2").write_text("")
    assert parse_loras("style:2") == (Lora("style:2", 1.0),)
    assert parse_loras("style:2:0.5") == (Lora("style:2", 0.5),)
    Path("style").write_text("")
    with pytest.raises(InputError, match=r"^the weight of the LoRA 'style' is 'high'; must be a finite number$"):
        parse_loras("style:high")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("style:nan", "weight of the LoRA 'style' is nan; must be a finite number"),
        ([("style", math.inf)], "is inf; must be a finite number"),
        ([("style", True)], "is True; must be a finite number"),
        ([("style", "1")], "is '1'; must be a finite number"),
        (("style", 0.5), r"lora is 0.5; must be FILE_OR_NAME\[:WEIGHT\] or a pair of name and weight"),
        ("", "lora is .*; must be FILE_OR_NAME"),
        (":0.5", "lora is .*; must be FILE_OR_NAME"),
        ([None], "lora is None; must be FILE_OR_NAME"),
    ],
)
def test_other_loras_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        parse_loras(given)


def test_textual_inversions(tmp_path):
    assert parse_inversions(["a:1", Path("b")]) == (TextualInversion("a:1"), TextualInversion("b"))
    for other in (3, "", ["a", None]):
        with pytest.raises(InputError, match=r"textual_inversion is .*; must be a \.safetensors file"):
            parse_inversions(other)


def test_recorded_options():
    options = LoadOptions("fp16", (Lora("a", 0.5, "0" * 64),), (TextualInversion("b", "<b>", "1" * 64),), "int8-quanto", "model")
    settings = json.loads(json.dumps(options.settings()))
    assert settings["lora"] == [{"name": "a", "weight": 0.5, "sha256": "0" * 64}]
    assert LoadOptions.from_settings(settings | {"steps": 3}) == options
    assert LoadOptions.from_settings({}) == LoadOptions()  # of earlier versions
    with pytest.raises(InputError, match="settings of the process are invalid"):
        LoadOptions.from_settings({"lora": [{"file": "a"}]})


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("style.safetensors").write_text("")
    options = LoadOptions(lora=(Lora("style.safetensors"), Lora("owner/name")), textual_inversion=(TextualInversion("other"),))
    absolute = options.with_absolute_paths()
    assert [lora.name for lora in absolute.lora] == [str(tmp_path / "style.safetensors"), "owner/name"]
    assert absolute.textual_inversion == options.textual_inversion


def test_size_and_length_are_part_of_every_description(tiny_video, tiny_sound, default_process, capsys):
    sound = tiny_sound.set(pipeline_kwargs={"negative_prompt": "noise"})
    for process, described in (
        (tiny_video, "32 x 32 pixels, 9 frames, 12 frames per second"),
        (tiny_video.set(height=32, width=64, frames=17, fps=7.5),
         "height 32 and width 64 pixels, 17 frames, 7.5 frames per second"),
        (sound, "0.2 seconds, negative prompt 'noise'"),
    ):  # fmt: skip
        settings = process.settings()
        assert summarize_settings(settings).endswith(f", {described}")
        assert describe_process(settings).endswith(f", {settings['dtype']}, {described}")
        print_store([ProcessSummary("0" * 64, settings, 1, 1, 1, 1)])
        assert described in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not {"pixels", "frames", "seconds"} & set(summarize_settings(default_process.settings()).split())
