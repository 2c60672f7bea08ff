"""Textual inversions: a new token has the effect of its embedding, and only texts with it change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import conjure
from conjure import InputError
from tiny_pipelines import FAMILIES, save

WIDTH = 32


def embedding(rows: int | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(() if rows is None else (rows,)), WIDTH, generator=generator)


def latents(process: conjure.Process, text: str) -> np.ndarray:
    return np.asarray(process.run([text], [0]))


@pytest.mark.parametrize(
    ("name", "key", "token"), [("any", "<style>", "<style>"), ("mystyle", "emb_params", "mystyle")], ids=["diffusers", "other"]
)
@pytest.mark.parametrize("rows", [None, 1, 3])
def test_only_texts_with_the_token_change(tiny_sd, tmp_path, name, key, token, rows):
    file = tmp_path / f"{name}.safetensors"
    save_file({key: embedding(rows)}, file)
    plain, process = conjure.load(tiny_sd, steps=2), conjure.load(tiny_sd, steps=2, textual_inversion=file)
    np.testing.assert_array_equal(latents(process, "a cat"), latents(plain, "a cat"))
    assert abs(latents(process, f"a cat in {token}") - latents(plain, f"a cat in {token}")).max() > 1e-3
    assert process.fingerprint() != plain.fingerprint()
    assert conjure.distance(process, "a cat", f"a cat in {token}", samples=1).distance > 0
    (recorded,) = process.settings()["textual_inversion"]
    assert recorded["token"] == token
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    save_file({key: embedding(rows, seed=1)}, other)
    assert conjure.load(tiny_sd, steps=2, textual_inversion=other).fingerprint() != process.fingerprint()


def test_embeddings_of_two_text_encoders(tmp_path):
    folder = save("SDXL", tmp_path / "model")
    file = tmp_path / "mystyle.safetensors"
    save_file({"clip_l": embedding(2), "clip_g": embedding(2, seed=1)}, file)
    settings = {"steps": 2, **FAMILIES["SDXL"].settings}
    plain, process = conjure.load(folder, **settings), conjure.load(folder, textual_inversion=[file], **settings)
    np.testing.assert_array_equal(latents(process, "a cat"), latents(plain, "a cat"))
    assert abs(latents(process, "mystyle") - latents(plain, "mystyle")).max() > 1e-3
    for encoder in (process.pipeline.text_encoder, process.pipeline.text_encoder_2):
        assert encoder.get_input_embeddings().weight.shape[0] > 100


def write(folder: Path, tensors: dict[str, torch.Tensor], name: str = "mystyle") -> Path:
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"<style>": torch.ones(7)}, "is for another model: its embedding has 7 dimensions, and the model '.*' needs 32"),
        ({"<a>": torch.ones(WIDTH), "<b>": torch.ones(WIDTH)}, "must have one embedding, or clip_l and clip_g; it has"),
        ({"<style>": torch.ones(1, 1, WIDTH)}, "must have one embedding"),
        ({"clip_l": torch.ones(WIDTH), "clip_g": torch.ones(WIDTH)}, "is for another model: .* needs none"),
        ({"a</w>": torch.ones(WIDTH)}, "cannot be used with the model '.*': [^\n]+$"),
    ],
)
def test_embeddings_for_another_model_are_refused(tiny_sd, tmp_path, tensors, message):
    with pytest.raises(InputError, match=rf"^the textual inversion '.*mystyle\.safetensors' [^\n]*{message}"):
        conjure.load(tiny_sd, textual_inversion=write(tmp_path, tensors))


def test_other_files_and_models_are_refused(tiny_sd, tmp_path):
    file = write(tmp_path, {"<style>": embedding()})
    with pytest.raises(InputError, match=r"model 'default' \(PixArtAlphaPipeline\) takes no textual inversion; leave it out"):
        conjure.load(textual_inversion=file)
    with pytest.raises(InputError, match="cannot be used with the model .* already in tokenizer"):
        conjure.load(tiny_sd, textual_inversion=[file, file])
    file.write_bytes(b"no safetensors")
    with pytest.raises(InputError, match="the textual inversion .* cannot be read"):
        conjure.load(tiny_sd, textual_inversion=file)
