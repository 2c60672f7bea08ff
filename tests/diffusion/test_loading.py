"""What can be loaded, and the one line that everything else gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

import conjure
from conjure import InputError, default_model


@pytest.fixture
def copy(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "model")


def test_default_model_is_a_stock_pipeline(default):
    from diffusers import PixArtAlphaPipeline

    assert type(default.pipeline) is PixArtAlphaPipeline
    pictures = default.run(["red apple"], [0], output_type="np")
    assert pictures.shape == (1, 64, 64, 3)
    assert default.settings()["guidance"] == json.loads((default_model.FOLDER / "conjure.json").read_text())["guidance"]


def test_default_model_is_small_and_described():
    weights = [path for path in default_model.FOLDER.rglob("*") if path.suffix == ".safetensors"]
    assert 0 < sum(path.stat().st_size for path in weights) <= 40e6
    assert not [path for path in default_model.FOLDER.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    card = (default_model.FOLDER / "README.md").read_text()
    for said in ("Apache-2.0", "MIT", "CC BY 4.0", "Noto", "Twemoji", "limits"):
        assert said.lower() in card.lower()


def test_saved_and_loaded_back(default, tmp_path):
    """The default model, written out whole, is an ordinary local folder with the same numbers."""
    default.pipeline.save_pretrained(tmp_path)
    again = conjure.load(tmp_path, guidance=default.guidance, unit=default.unit)
    again = again.set(call=default.call)
    here, there = (conjure.distance(one, "sun", "moon", samples=1).distance for one in (default, again))
    assert there == pytest.approx(here, rel=1e-5)


def test_half_precision_keeps_sums_in_float32(tiny_sd):
    full, half = (conjure.distance(conjure.load(tiny_sd, dtype=dtype), "sun", "moon") for dtype in ("float32", "bfloat16"))
    assert half.distance == pytest.approx(full.distance, rel=0.2)
    assert half.process["dtype"] == "bfloat16"


def test_a_pipeline_that_is_loaded_already(default, tiny_sd):
    """With adapters fused, say; it stays as it is."""
    again = conjure.load(default.pipeline, guidance=default.guidance, unit=default.unit).set(call=default.call)
    assert (
        conjure.distance(again, "sun", "moon", samples=1).distance == conjure.distance(default, "sun", "moon", samples=1).distance
    )
    assert again.identity() == default.identity()
    pipeline = conjure.load(tiny_sd).pipeline
    assert conjure.load(pipeline).settings()["guidance"] == 7.5
    assert conjure.load(pipeline, dtype="bfloat16").pipeline.dtype == torch.bfloat16


@pytest.mark.parametrize("option", ["channels_last", "compile"])
def test_variants_give_the_same_numbers(tiny_sd, option):
    if option == "compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    variants = (conjure.load(tiny_sd, steps=2), conjure.load(tiny_sd, steps=2, compile=option == "compile",
                                                             channels_last=option == "channels_last"))  # fmt: skip
    plain, varied = (conjure.distance(one, "sun", "moon", samples=2) for one in variants)
    assert varied.samples == pytest.approx(plain.samples, rel=1e-4)
    assert varied.identity == plain.identity


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "neither a folder nor a Hub name"),
        ("nonsense", "allowed are default, a folder"),
        ("a/b/c", "neither a folder nor a Hub name"),
    ],
)
def test_names_that_are_nothing(name, message):
    with pytest.raises(InputError, match=message):
        conjure.load(name)


def test_no_module_is_imported_because_a_model_names_it(tiny_sd, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    (tmp_path / "somebodys_code.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["somebodys_code", "UNet2DConditionModel"]}))
    with pytest.raises(InputError, match="takes its part 'unet' from 'somebodys_code'; allowed are diffusers, transformers"):
        conjure.load(folder)


def test_hub_without_a_connection(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="'nobody/nothing@v1' cannot be fetched from the Hugging Face Hub.*give a local folder"):
        conjure.load("nobody/nothing@v1")


def test_hub_name_with_revision(tiny_sd, tmp_path, monkeypatch):
    """A snapshot in the Hub's cache is loaded, and its commit is reported as the revision."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    asked: dict[str, object] = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(shutil.copytree(tiny_sd, tmp_path / "snapshots" / commit))

    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    process = conjure.load("somebody/model@main")
    assert (asked["name"], asked["revision"], asked["use_safetensors"]) == ("somebody/model", "main", True)
    assert process.settings()["revision"] == commit


def test_no_model_index(tmp_path):
    with pytest.raises(InputError, match="has no model_index.json"):
        conjure.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"_class_name": "os.system"}', '{"_class_name": 7}', "\xff"])
def test_broken_model_index(tmp_path, text):
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(InputError):
        conjure.load(tmp_path)


def test_not_text_to_image(tmp_path):
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",))  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="DDPMPipeline.*not a text-to-image pipeline"):
        conjure.load(tmp_path)


def test_image_to_image(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionImg2ImgPipeline"}))
    with pytest.raises(InputError, match="not a text-to-image pipeline"):
        conjure.load(copy)


def test_pickles_alone(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(InputError, match="'unet' in a pickled checkpoint.*safe_serialization"):
        conjure.load(copy)


@pytest.mark.parametrize("weights", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_pickles_that_an_index_of_safetensors_names(copy, weights):
    weights = copy / weights
    tensors = load_file(weights)
    torch.save(tensors, weights.with_name("shard.bin"))
    weights.with_name(f"{weights.name}.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "shard.bin")})
    )
    weights.rename(weights.with_name("beside.safetensors"))
    with pytest.raises(InputError, match="names 'shard.bin' in its .*; only safetensors are read"):
        conjure.load(copy)


@pytest.mark.parametrize("told", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_broken_index_of_shards(copy, told):
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(told)
    with pytest.raises(InputError, match=r"index\.json that cannot be read"):
        conjure.load(copy)


def test_a_pipeline_as_a_part(copy, tiny_sd):
    """Its own parts would be read by the rules of diffusers, pickles and all."""
    shutil.rmtree(copy / "unet")
    shutil.copytree(tiny_sd, copy / "unet")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "StableDiffusionPipeline"]}))
    with pytest.raises(InputError, match="has a whole pipeline as its part 'unet'"):
        conjure.load(copy)


@pytest.mark.parametrize("declared", [("evil", "Evil"), ("transformers", "AutoModel"), ("diffusers", "AutoModel")])
@pytest.mark.parametrize("part", ["unet", "text_encoder", "tokenizer", "scheduler"])
def test_code_of_a_model_is_not_run(copy, monkeypatch, part, declared):
    """Not where it stands beside the weights, nor where somebody starts Python in the folder."""
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend("")
    for folder in (copy, copy / part):
        (folder / "evil.py").write_text("open('was_here', 'w').close()\nclass Evil: pass\n")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {part: declared}))
    for name in ("config.json", "tokenizer_config.json", "scheduler_config.json"):
        config = copy / part / name
        told = json.loads(config.read_text()) if config.exists() else {}
        asked = dict.fromkeys(("AutoModel", "AutoConfig", "AutoTokenizer"), "evil.Evil")
        config.write_text(json.dumps(told | {"auto_map": asked, "model_type": "evil"}))
    with pytest.raises(InputError):
        conjure.load(copy)
    assert not (copy / "was_here").exists()


def test_missing_part(copy):
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(InputError, match="lacks its part 'text_encoder'"):
        conjure.load(copy)


def test_empty_part(copy):
    for file in (copy / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="has an empty part 'tokenizer'"):
        conjure.load(copy)


@pytest.mark.parametrize("damage", ["truncate", "delete", "config"])
def test_damaged_part(copy, damage):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "delete":
        weights.unlink()
    else:
        (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        conjure.load(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "unknown dtype"),
        ({"dtype": []}, "unknown dtype"),
        ({"device": "abacus"}, "unknown device 'abacus'; allowed are cpu, cuda and mps"),
        ({"device": 1.5}, "unknown device 1.5"),
        ({"scheduler": 3}, "the scheduler is 3; allowed are names"),
        ({"unit": ""}, "unknown unit ''"),
    ],
)
def test_bad_options(tiny_sd, options, message):
    with pytest.raises(InputError, match=message):
        conjure.load(tiny_sd, **options)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there(monkeypatch, device):
    """It is told before the model is looked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    kind = device[:4].strip(":").upper()
    with pytest.raises(
        InputError, match=f"the device is '{device}', but PyTorch finds no {kind} device on this machine; give cpu"
    ):
        conjure.load("/no/such/folder", device=device)


def test_loading_is_quiet_and_nothing_else():
    """Whoever uses the libraries beside us hears them as before."""
    code = (
        "import conjure; conjure.load(); from conjure import quiet;"
        "print([library.get_verbosity() for library in quiet.LIBRARIES]);"
        "print([library.is_progress_bar_enabled() for library in quiet.WITH_BARS], quiet.are_progress_bars_disabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[30, 30, 30]\n[True, True] False\n", "")


def test_changed_text_encoder(monkeypatch):
    default_model.encoder_folder.cache_clear()
    monkeypatch.setattr(default_model, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        conjure.load()
    monkeypatch.setattr(default_model, "ENCODER", ("no-such-package", "1"))
    with pytest.raises(InputError, match="pip install no-such-package==1"):
        conjure.load()


def test_default_model_hears_a_text_as_one_vector():
    """The mean state of all-MiniLM-L6-v2 over the tokens of a text, whatever stands beside it, the same for all its tokens."""
    from transformers import AutoModel

    texts = ["a dog", "two children are playing in the park"]
    words = default_model.tokenizer()(texts, padding="max_length", max_length=16, return_tensors="pt")
    heard = default_model.text_encoder()(words.input_ids, attention_mask=words.attention_mask)[0]
    plain = AutoModel.from_pretrained(default_model.encoder_folder())
    for text, state in zip(texts, heard, strict=True):
        alone = default_model.tokenizer()([text], return_tensors="pt")
        with torch.inference_mode():
            mean = plain(**alone).last_hidden_state[0].mean(0)
        torch.testing.assert_close(state, (mean / mean.square().mean().sqrt()).expand(16, 384), rtol=1e-4, atol=1e-4)
