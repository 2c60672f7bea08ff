"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import conjure
from character_tokenizer import clip_tokenizer
from command_server import command_server
from conjure.cli import main
from conjure.diffusion import pipeline_patching
from conjure.diffusion.process import Process
from rated_pairs import RATINGS


def pytest_configure() -> None:
    """Let commands that tests start receive Ctrl-C, which a shell disables where it starts the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def batches_of_instrumented_networks(request, monkeypatch) -> None:
    """Run networks in batches also where a test replaces their methods to record calls, which would count as added code."""
    if "added_code" not in request.keywords:
        monkeypatch.setattr(pipeline_patching, "has_added_code", lambda _: False)


@pytest.fixture(scope="session")
def default_process() -> Process:
    """The process of the default model, with its default settings."""
    return conjure.load()


@pytest.fixture(scope="session")
def human_ratings() -> Callable[[str], list[dict[str, str]]]:
    """A reader of files with human ratings: it returns the rows of a file. Skips the test where the files are not available."""
    if not RATINGS.is_dir():
        pytest.skip(f"no human ratings in {RATINGS}")

    def read(name: str) -> list[dict[str, str]]:
        head, *lines = (RATINGS / name).read_text(encoding="utf-8").splitlines()
        return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]

    return read


@pytest.fixture
def conjure_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process and return its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        gc.unfreeze()  # a command freezes all objects that exist when it begins, of which there are many here
        output = capsys.readouterr()
        assert isinstance(exit_info.value.code, int)
        return exit_info.value.code, output.out, output.err

    return run


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """The folder of a StableDiffusionPipeline with random weights, saved in the format of the real one."""
    torch.manual_seed(0)
    parent = tmp_path_factory.mktemp("tiny")
    tokenizer = clip_tokenizer(parent / "clip")
    special_tokens = {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1}
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 37} | special_tokens
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, num_attention_heads=4, **sizes)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32, attention_head_dim=4,
        ),
        scheduler=PNDMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    # Layers of the usual size change little with the text; larger weights make texts differ as in a trained model
    for parameter in pipeline.unet.parameters():
        parameter.data *= 1.5
    folder = parent / "stable-diffusion"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_video(tmp_path_factory) -> Process:
    """A process of videos with random weights: 9 frames of 32 by 32 pixels."""
    from tiny_media_pipelines import VIDEO_FAMILIES

    folder = VIDEO_FAMILIES["LTX-Video"].save(tmp_path_factory.mktemp("video"))
    return conjure.load(folder, steps=2, height=32, width=32, frames=9, fps=12)


@pytest.fixture(scope="session")
def tiny_sound(tmp_path_factory) -> Process:
    """A process of sounds of 0.2 seconds with random weights."""
    from tiny_media_pipelines import AUDIO_FAMILIES

    return conjure.load(AUDIO_FAMILIES["Stable Audio"].save(tmp_path_factory.mktemp("sound")), steps=2, seconds=0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Run commands as whole processes."""
    with command_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared_inputs(server, tiny_sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "model").symlink_to(tiny_sd)
    (folder / "texts").write_text("cat\ndog\n")
    (folder / "pairs.tsv").write_text("text1\ttext2\tscore\nred\tblue\t1\ncat\tdog\t2\nsun\tmoon\t3\n")
    quick = ("--model", "model", "--steps", "1")
    assert server.run("bench", "--data", "pairs.tsv", "--out", "run", *quick, cwd=folder).code == 0
    assert server.run("compare", "a", "c", "--store", "s", "--samples", "2", *quick, cwd=folder).code == 0
    return folder


@pytest.fixture
def inputs(prepared_inputs, tmp_path):
    """A folder with one of each input of a command: `model`, `texts`, `pairs.tsv`, a run in `run`, and a store in `s`."""
    return Path(shutil.copytree(prepared_inputs, tmp_path / "inputs", symlinks=True))
