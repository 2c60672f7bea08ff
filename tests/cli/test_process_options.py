"""The options that define a process: every command that names a model has them, and passes them on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import conjure
from conjure.cli.commands import app
from conjure.cli.process import ProcessOptions
from lora_files import random_lora, save_kohya

NEW = {"lora", "textual_inversion", "negative_prompt", "height", "width", "guidance", "scheduler", "offload", "quantize",
       "variant", "device", "dtype", "frames", "fps", "seconds"}  # fmt: skip
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
WITH_MODEL = sorted(name for name, command in COMMANDS.items() if {"model", "models"} & {param.name for param in command.params})


def test_commands_with_a_model():
    assert {"compare", "matrix", "nearest", "check", "bench", "ablate", "app"} <= set(WITH_MODEL)


@pytest.mark.parametrize("name", WITH_MODEL)
def test_every_command_with_a_model_has_the_options(name):
    parameters = {parameter.name: parameter for parameter in COMMANDS[name].params}
    assert set(parameters) >= NEW
    assert parameters["lora"].multiple
    assert parameters["textual_inversion"].multiple
    assert parameters["lora"].metavar == "FILE_OR_NAME[:WEIGHT]"


@pytest.mark.parametrize("name", WITH_MODEL)
def test_help_is_printed(conjure_command, name):
    """Brackets in help texts are markup."""
    code, out, _ = conjure_command(name, "--help")
    assert code == 0
    assert "--lora" in out


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory) -> Path:
    return save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path_factory.mktemp("lora") / "style.safetensors")


def test_options_reach_the_process(conjure_command, tiny_sd, lora):
    options = (
        "--lora",
        f"{lora}:0.5",
        "--lora",
        lora,
        "--negative-prompt",
        "rain",
        "--height",
        64,
        "--width",
        32,
        "--quantize",
        "int8",
    )
    code, out, err = conjure_command(
        "compare", "sun", "moon", "--model", tiny_sd, "--samples", 2, "--steps", 2, "--json", *options
    )
    assert (code, err) == (0, "")
    output = json.loads(out)
    process = conjure.load(
        tiny_sd, steps=2, lora=[(lora, 0.5), lora], negative_prompt="rain", height=64, width=32, quantize="int8"
    )
    assert output["process"] == json.loads(json.dumps(process.settings()))
    assert output["fingerprint"] == process.fingerprint()
    assert output["samples"] == pytest.approx(list(conjure.distance(process, "sun", "moon", samples=2).samples), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "nothing.safetensors:0.5"), "the LoRA 'nothing.safetensors' is neither a file, a folder nor a Hub name"),
        (("--lora", "x:inf"), "the weight of the LoRA 'x' is inf; must be a finite number"),
        (("--textual-inversion", "nothing.pt"), "the textual inversion 'nothing.pt' is neither a file"),
        (("--quantize", "int3"), "quantize is 'int3'; must be int8 or int4"),
        (("--offload", "all"), "offload is 'all'; must be one of model, sequential, group"),
        (("--device", "cpu", "--offload", "model"), "offload is 'model', but the device is the CPU"),
        (("--height", "64"), "height is 64 and width is None; give both or neither"),
        (("--guidance", "1", "--negative-prompt", "rain"), "ignores a negative prompt with guidance 1"),
        (("--negative-prompt", "\udcff"), "the negative prompt .* contains a lone surrogate; leave it out"),
        (("--variant", "fp16"), "model 'default' has no weights of the variant 'fp16'"),
    ],
)
def test_invalid_values_are_refused_in_one_line(conjure_command, options, message):
    code, out, err = conjure_command("check", "default", "--steps", 1, *options)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err


def test_options_without_a_value_are_those_of_the_model():
    assert {name: value for name, value in ProcessOptions().arguments().items() if value} == {"model": "default"}
    assert ProcessOptions(lora=[]).arguments()["lora"] is None  # typer passes an empty list


def test_hardware_of_the_workers(monkeypatch):
    """The local process has no use for it: it provides settings and fingerprint."""
    given: dict[str, Any] = {}

    class FakeWorkers:
        def __init__(self, *args: Any) -> None:
            given["workers"] = args

    class FakeProcess:
        def set(self, **settings: Any) -> Any:
            return settings

    def fake_load(**arguments: Any) -> FakeProcess:
        given["load"] = arguments
        return FakeProcess()

    monkeypatch.setattr(conjure, "load", fake_load)
    monkeypatch.setattr(conjure, "Workers", FakeWorkers)
    ProcessOptions(device="cuda", offload="group", compile=True, lora=["x:1"], variant="fp16", workers=2).load()
    assert given["workers"] == (2, None, {"device": "cuda", "compile": True, "offload": "group"})
    local = given["load"]
    assert (local["device"], local["offload"], local["compile"]) == ("cpu", None, False)
    assert (local["lora"], local["variant"]) == (["x:1"], "fp16")
