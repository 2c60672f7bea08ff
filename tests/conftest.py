from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import conjure
from conjure.cli import main

SIMILARITY = Path(__file__).parents[2] / "shared" / "data" / "similarity"


@pytest.fixture(scope="session")
def default():
    """The process of the model that ships with the package, at its own settings."""
    return conjure.load()


@pytest.fixture(scope="session")
def judgements():
    """A reader of the human judgements, where they are at hand: file name -> list of rows."""
    if not SIMILARITY.is_dir():
        pytest.skip(f"human judgements are not at hand in {SIMILARITY}")

    def read(name: str) -> list[dict[str, str]]:
        head, *lines = (SIMILARITY / name).read_text(encoding="utf-8").splitlines()
        return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]

    return read


@pytest.fixture
def conjure_command(capsys):
    """Run the command line here, give its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        gc.unfreeze()  # a command never looks for garbage in what was there when it began, of which there are many here
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    return run


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer in CLIP's format whose words are single characters."""
    characters = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    words = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """A StableDiffusionPipeline with random weights, saved as the real one is: its folder."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("tiny")
    tokenizer = clip_tokenizer(place / "clip")
    ends = {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1}
    words = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 37} | ends
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, num_attention_heads=4, **words)),
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
    # Random layers at their usual size hardly move: larger ones make the texts differ as in a trained model
    for parameter in pipeline.unet.parameters():
        parameter.data *= 1.5
    folder = place / "stable-diffusion"
    pipeline.save_pretrained(folder)
    return folder
