"""Modular pipelines have the distances of the stock pipeline with the same components. Invalid folders are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest

import conjure
from conjure import InputError
from conjure.pipeline_checks import check_model
from tiny_pipelines import FAMILIES

# Per family the class of its blocks, and the settings of the stock pipeline that correspond to the guidance 3 of the Modular one.
# The scale 1 of a guider is no guidance, while that of Z-Image is 0.
MODULAR: dict[str, tuple[str, dict[str, Any]]] = {
    "SDXL": ("StableDiffusionXLAutoBlocks", {"guidance": 3.0}),
    "Stable Diffusion 3": ("StableDiffusion3AutoBlocks", {"guidance": 3.0}),
    "Stable Diffusion 3.5": ("StableDiffusion3AutoBlocks", {"guidance": 3.0}),
    "Flux dev": ("FluxAutoBlocks", {"guidance": 3.0}),
    "Flux schnell": ("FluxAutoBlocks", {"guidance": 3.0}),
    "Z-Image": ("ZImageAutoBlocks", {"guidance": 2.0}),
    "Flux 2 Klein": ("Flux2KleinBaseAutoBlocks", {"guidance": 3.0}),
    "Qwen-Image": ("QwenImageAutoBlocks", {"pipeline_kwargs": {"true_cfg_scale": 3.0}}),
}
QUICK = ("SDXL", "Flux dev", "Z-Image")  # a UNet with a guider, a model with embedded guidance, and blocks that decode latents


def save(stock: Any, name: str, folder: Path) -> Path:
    """Save the components of the pipeline `stock` as a Modular pipeline of the family `name`."""
    pipeline = getattr(diffusers, MODULAR[name][0])().init_pipeline()
    components = {
        part: component for part, component in stock.components.items() if component is not None and part in pipeline.components
    }
    pipeline.update_components(**components)
    pipeline.save_pretrained(str(folder), overwrite_modular_index=True)
    return folder


def update_json(path: Path, changes: dict[str, Any]) -> None:
    """Change entries of a JSON file, which is made if it does not exist."""
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


@pytest.fixture(scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODULAR])
def processes(request, tmp_path_factory):
    """The Modular and the stock process of a family."""
    stock, folder = FAMILIES[request.param].build(), tmp_path_factory.mktemp("modular")
    stock.save_pretrained(folder / "stock")
    # Move the folder, so that the paths in its index do not exist
    shutil.move(save(stock, request.param, folder / "saved"), folder / "moved")
    settings: dict[str, Any] = {"height": 64, "width": 64, "steps": 4}
    modular, plain = conjure.load(folder / "moved", **settings), conjure.load(folder / "stock", **settings)
    pipeline_kwargs = FAMILIES[request.param].pipeline_kwargs
    return (
        modular.set(guidance=3.0, pipeline_kwargs=pipeline_kwargs),
        plain.set(**{"pipeline_kwargs": pipeline_kwargs} | MODULAR[request.param][1]),
    )


def test_same_distances_as_the_stock_pipeline(processes):
    modular, stock = (conjure.distance(process, "a red apple", "two blue whales", samples=2) for process in processes)
    assert modular.samples == pytest.approx(stock.samples, rel=1e-4)
    assert modular.distance > 0


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # flow schedules of one step, inside diffusers
def test_passes_the_pipeline_checks(processes):
    assert [str(finding) for finding in check_model(processes[0]) if not finding.passed] == []


def test_a_run_leaves_the_pipeline_unchanged(processes):
    process = processes[0]
    before = dict(vars(process.pipeline))
    process.run(["a red apple"], [0])
    assert vars(process.pipeline) == before
    assert len(process.fingerprint()) == 64


@pytest.fixture(scope="module")
def z_image(tmp_path_factory):
    """The folder of a Modular Z-Image pipeline."""
    return save(FAMILIES["Z-Image"].build(), "Z-Image", tmp_path_factory.mktemp("z-image") / "model")


def test_a_disabled_guider_stays_disabled(z_image):
    assert conjure.load(z_image).guidance == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "os.system"}, "not a pipeline of diffusers"),
        ({"_class_name": "ZImagePipeline"}, "not a pipeline of diffusers"),
        ({"_blocks_class_name": "SequentialPipelineBlocks"}, "has the blocks 'SequentialPipelineBlocks', which are not part of"),
        ({"_blocks_class_name": "UnknownBlocks"}, "has the blocks 'UnknownBlocks', which are not part of"),
        ({"_blocks_class_name": "WanBlocks"}, "not a text-to-image pipeline"),
        ({"_blocks_class_name": "Cosmos3OmniBlocks"}, "not a text-to-image pipeline"),
    ],
)
def test_other_classes_are_refused(z_image, tmp_path, changes, message):
    folder = shutil.copytree(z_image, tmp_path / "model")
    update_json(folder / "modular_model_index.json", changes)
    with pytest.raises(InputError, match=message):
        conjure.load(folder)


def test_code_of_a_repository_is_not_run(z_image, tmp_path):
    folder = shutil.copytree(z_image, tmp_path / "model")
    for path in (folder / "custom.py", folder / "tokenizer" / "custom.py"):
        path.write_text("raise SystemExit('this code was run')")
    update_json(folder / "modular_config.json", {"auto_map": {"ModularPipelineBlocks": "custom.Blocks"}})
    conjure.load(folder)
    custom_tokenizer = {"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["custom.Custom", None]}}
    update_json(folder / "tokenizer" / "tokenizer_config.json", custom_tokenizer)
    spec = {"pretrained_model_name_or_path": "anywhere", "subfolder": "tokenizer", "type_hint": ["transformers", "AutoTokenizer"]}
    update_json(folder / "modular_model_index.json", {"tokenizer": ["transformers", "AutoTokenizer", spec]})
    with pytest.raises(InputError, match="needs its own code for 'Custom'"):
        conjure.load(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pickle", "pickled checkpoint"),
        ("truncated", "cannot be loaded: Unable to load transformer"),
        ("missing", "cannot be loaded: Unable to load transformer"),
    ],
)
def test_damaged_components_are_refused(z_image, tmp_path, damage, message):
    folder = shutil.copytree(z_image, tmp_path / "model")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        spec = {"pretrained_model_name_or_path": "a/b", "subfolder": "", "type_hint": ["diffusers", "ZImageTransformer2DModel"]}
        update_json(folder / "modular_model_index.json", {"transformer": [None, None, spec]})
        shutil.rmtree(folder / "transformer")
    with pytest.raises(InputError, match=message):
        conjure.load(folder)
