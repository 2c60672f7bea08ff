"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import json
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import conjure
from conjure.cli import main
from conjure.diffusion.process import Process
from rated_pairs import RATINGS


def pytest_configure() -> None:
    """Let commands that tests start receive Ctrl-C, which a shell disables where it starts the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a tokenizer in CLIP's format whose tokens are single characters."""
    characters = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    vocabulary = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


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
