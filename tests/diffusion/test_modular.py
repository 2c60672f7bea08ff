"""Modular pipelines: the same numbers as the stock pipeline of the same parts, and the one line that the others get."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
from families import FAMILIES

import conjure
from conjure import InputError
from conjure.contract import check_model

# family -> blocks, and the stock settings that a guidance of 3 stands for; a guider counts from 1, where there is none
MODULAR: dict[str, tuple[str, dict[str, Any]]] = {
    "SDXL": ("StableDiffusionXLAutoBlocks", {"guidance": 3.0}),
    "Stable Diffusion 3": ("StableDiffusion3AutoBlocks", {"guidance": 3.0}),
    "Stable Diffusion 3.5": ("StableDiffusion3AutoBlocks", {"guidance": 3.0}),
    "Flux dev": ("FluxAutoBlocks", {"guidance": 3.0}),
    "Flux schnell": ("FluxAutoBlocks", {"guidance": 3.0}),
    "Z-Image": ("ZImageAutoBlocks", {"guidance": 2.0}),
    "Flux 2 Klein": ("Flux2KleinBaseAutoBlocks", {"guidance": 3.0}),
    "Qwen-Image": ("QwenImageAutoBlocks", {"call": {"true_cfg_scale": 3.0}}),
}


def save(stock: Any, name: str, folder: Path) -> Path:
    """Save the parts of `stock` as a Modular pipeline of family `name`."""
    pipeline = getattr(diffusers, MODULAR[name][0])().init_pipeline()
    parts = {part: what for part, what in stock.components.items() if what is not None and part in pipeline.components}
    pipeline.update_components(**parts)
    pipeline.save_pretrained(str(folder), overwrite_modular_index=True)
    return folder


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | change))


@pytest.fixture(scope="module", params=MODULAR)
def pair(request, tmp_path_factory):
    stock, place = FAMILIES[request.param].build(), tmp_path_factory.mktemp("modular")
    stock.save_pretrained(place / "stock")
    shutil.move(save(stock, request.param, place / "modular"), place / "moved")  # away from where its index says that it lies
    settings: dict[str, Any] = {"height": 64, "width": 64, "steps": 4}
    modular, plain = conjure.load(place / "moved", **settings), conjure.load(place / "stock", **settings)
    call = FAMILIES[request.param].call
    return modular.set(guidance=3.0, call=call), plain.set(**{"call": call} | MODULAR[request.param][1])


def test_same_numbers_as_the_stock_pipeline(pair):
    modular, stock = (conjure.distance(process, "a red apple", "two blue whales", samples=2) for process in pair)
    assert modular.samples == pytest.approx(stock.samples, rel=1e-4)
    assert modular.distance > 0


def test_keeps_the_contract(pair):
    assert [str(finding) for finding in check_model(pair[0]) if not finding.passed] == []


def test_leaves_the_pipeline_as_it_was(pair):
    pipeline = pair[0].pipeline
    before = dict(vars(pipeline))
    pair[0].run(["a red apple"], [0])
    assert vars(pipeline) == before
    assert len(pair[0].identity()) == 64


@pytest.fixture(scope="module")
def z_image(tmp_path_factory):
    return save(FAMILIES["Z-Image"].build(), "Z-Image", tmp_path_factory.mktemp("z-image") / "model")


def test_a_guider_that_is_off_stays_off(z_image):
    assert conjure.load(z_image).guidance == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "os.system"}, "no pipeline of diffusers"),
        ({"_class_name": "ZImagePipeline"}, "no pipeline of diffusers"),
        ({"_blocks_class_name": "SequentialPipelineBlocks"}, "has the blocks 'SequentialPipelineBlocks', which are none of"),
        ({"_blocks_class_name": "TheirBlocks"}, "has the blocks 'TheirBlocks', which are none of"),
        ({"_blocks_class_name": "WanBlocks"}, "not a text-to-image pipeline"),
        ({"_blocks_class_name": "Cosmos3OmniBlocks"}, "not a text-to-image pipeline"),
    ],
)
def test_other_indices(z_image, tmp_path, change, message):
    folder = shutil.copytree(z_image, tmp_path / "model")
    edit(folder / "modular_model_index.json", change)
    with pytest.raises(InputError, match=message):
        conjure.load(folder)


def test_no_code_of_a_repository(z_image, tmp_path):
    folder = shutil.copytree(z_image, tmp_path / "model")
    for path in (folder / "theirs.py", folder / "tokenizer" / "theirs.py"):
        path.write_text("raise SystemExit('this ran')")
    edit(folder / "modular_config.json", {"auto_map": {"ModularPipelineBlocks": "theirs.Blocks"}})
    conjure.load(folder)
    theirs = {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}}
    edit(folder / "tokenizer" / "tokenizer_config.json", theirs)
    hint = {"pretrained_model_name_or_path": "anywhere", "subfolder": "tokenizer", "type_hint": ["transformers", "AutoTokenizer"]}
    edit(folder / "modular_model_index.json", {"tokenizer": ["transformers", "AutoTokenizer", hint]})
    with pytest.raises(InputError, match="cannot be loaded: Unable to load tokenizer.*custom code"):
        conjure.load(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pickle", "pickled checkpoint"),
        ("truncate", "cannot be loaded: Unable to load transformer"),
        ("elsewhere", "cannot be loaded: Unable to load transformer"),
    ],
)
def test_damaged_part(z_image, tmp_path, damage, message):
    folder = shutil.copytree(z_image, tmp_path / "model")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        hint = {"pretrained_model_name_or_path": "a/b", "subfolder": "", "type_hint": ["diffusers", "ZImageTransformer2DModel"]}
        edit(folder / "modular_model_index.json", {"transformer": [None, None, hint]})
        shutil.rmtree(folder / "transformer")
    with pytest.raises(InputError, match=message):
        conjure.load(folder)
