"""No code of a model is run and nothing is asked, whatever its configurations name; pickles are refused at any level."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers as t

import conjure
from conjure import InputError
from conjure.baselines.registry import make_baselines
from conjure.diffusion.readable_files import check_pickles, readable_folder
from tiny_language_models import save_bert, save_gpt2

AUTO_CLASSES = (
    "AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor",
)  # fmt: skip
AUTO_MAP = dict.fromkeys(AUTO_CLASSES, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}


def add_code(folder: Path, marker: Path, *configs: str, **changes: Any) -> None:
    """Write code that creates the file `marker`, and let configurations refer to it."""
    folder.joinpath("evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    for name in configs:
        path = folder / name
        config = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(config | {"auto_map": AUTO_MAP} | changes))


@pytest.fixture
def yes(monkeypatch):
    """Answer every question with yes."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")


@pytest.fixture
def processor_model(tiny_sd, tmp_path) -> Path:
    """A model whose `feature_extractor` is a processor of transformers with code beside it."""
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    processor = t.CLIPProcessor(t.CLIPImageProcessor(), t.CLIPTokenizer.from_pretrained(folder / "tokenizer"))
    processor.save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    configs = ("preprocessor_config.json", "tokenizer_config.json", "processor_config.json")
    add_code(folder / "feature_extractor", tmp_path / "marker", *configs)
    add_code(folder / "tokenizer", tmp_path / "marker", "tokenizer_config.json")
    add_code(folder / "text_encoder", tmp_path / "marker", "config.json")
    return folder


def test_classes_of_the_library_are_used(processor_model, tmp_path, yes, tiny_sd):
    process = conjure.load(processor_model, steps=1)
    expected = conjure.distance(conjure.load(tiny_sd, steps=1), "sun", "moon", samples=1)
    assert conjure.distance(process, "sun", "moon", samples=1).samples == expected.samples
    assert not (tmp_path / "marker").exists()
    assert process.pipeline.config["_name_or_path"] == str(processor_model)


def test_nothing_is_asked_where_configurations_name_no_class(processor_model, tmp_path, yes):
    """These files name a class that transformers does not have. It would ask whether to run the code of the model."""
    folder = processor_model / "feature_extractor"
    (folder / "processor_config.json").unlink()
    t.CLIPImageProcessor().save_pretrained(folder)
    add_code(folder, tmp_path / "marker", "preprocessor_config.json")
    for name, key in (("preprocessor_config.json", "image_processor_type"), ("tokenizer_config.json", "tokenizer_class")):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({entry: value for entry, value in config.items() if entry != key}))
    with contextlib.suppress(InputError):  # it depends on the version whether transformers has a class for these files
        conjure.load(processor_model)
    assert not (tmp_path / "marker").exists()


def test_a_class_that_only_the_code_defines_is_refused(processor_model, tmp_path, yes):
    add_code(processor_model / "feature_extractor", tmp_path / "marker", "tokenizer_config.json", tokenizer_class="Evil")
    with pytest.raises(InputError, match="needs its own code for 'Evil'.*which is not run"):
        conjure.load(processor_model)
    assert not (tmp_path / "marker").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"tokenizer_class": "Evil"}, 2)])
def test_nothing_is_asked_at_the_terminal(processor_model, tmp_path, changes, code):
    add_code(processor_model / "feature_extractor", tmp_path / "marker", "tokenizer_config.json", **changes)
    arguments = ["-m", "conjure", "compare", "sun", "moon", "--steps", "1", "--model", str(processor_model)]
    completed = subprocess.run([sys.executable, *arguments], input="y\n" * 9, capture_output=True, text=True, check=False)
    assert completed.returncode == code
    assert "Do you wish" not in completed.stdout + completed.stderr
    assert not (tmp_path / "marker").exists()


def save_clip(folder: Path) -> Path:
    """Save a CLIP with its image processor, and return the folder."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"image_size": 32, "patch_size": 8, **small}
    t.CLIPModel(t.CLIPConfig(text_config=small, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["cls", "mean", "sentence", "trajectories", "frechet"])
def test_code_of_baselines_is_not_run(default_process, tmp_path, yes, kind):
    folder = {"trajectories": save_gpt2, "frechet": save_clip}.get(kind, save_bert)(tmp_path)
    configs = ("config.json", "preprocessor_config.json") if kind == "frechet" else ("config.json", "tokenizer_config.json")
    add_code(folder, tmp_path / "marker", *configs)
    assert len(make_baselines([f"{kind}:{folder}"], default_process)) == 1
    add_code(folder, tmp_path / "marker", "config.json", model_type="evil")
    with pytest.raises(InputError):
        make_baselines([f"{kind}:{folder}"], default_process)
    assert not (tmp_path / "marker").exists()


def test_modules_of_sentence_models_are_not_imported(default_process, tmp_path, yes):
    folder = save_bert(tmp_path)
    add_code(folder, tmp_path / "marker")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]))
    with pytest.raises(InputError, match="cannot be loaded"):
        make_baselines([f"sentence:{folder}"], default_process)
    assert not (tmp_path / "marker").exists()


def test_activations_of_other_packages_are_refused(default_process, tmp_path):
    """sentence-transformers would replace them by another function."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    bert = tmp_path / "bert"
    bert.mkdir()
    transformer = modules.Transformer(str(save_bert(bert)))
    folder = tmp_path / "sentence"
    SentenceTransformer(modules=[transformer, modules.Pooling(32), modules.Dense(32, 16)]).save(str(folder))
    make_baselines([f"sentence:{folder}"], default_process)
    config = folder / "2_Dense" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"activation_function": "evil.Evil"}))
    with pytest.raises(InputError, match="activation function 'evil.Evil'; only those of torch can be used"):
        make_baselines([f"sentence:{folder}"], default_process)


def test_links_and_nested_references_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps({"a": [{"trust_remote_code": True, "b": 1}]}))
    (tmp_path / "model" / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model" / "loop").symlink_to(tmp_path / "model")
    with readable_folder(tmp_path / "model", "model") as folder:
        assert folder != tmp_path / "model"
        assert json.loads((folder / "part" / "config.json").read_text()) == {"a": [{"b": 1}]}
        assert not list(folder.rglob("loop"))
    assert not folder.exists()


def test_folders_without_code_are_read_in_place(tiny_sd):
    with readable_folder(tiny_sd, "model") as folder:
        assert folder == tiny_sd


@pytest.mark.parametrize("file", ["pytorch_model.bin", "1_Pooling/pytorch_model.bin", "2_Dense/deeper/weights.pt"])
def test_pickles_of_baselines_are_refused_at_any_level(default_process, tmp_path, file):
    folder = save_bert(tmp_path)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"pickle")
    if path.parent == folder:
        (folder / "model.safetensors").unlink()
    for kind in ("sentence", "mean"):
        with pytest.raises(InputError, match=f"pickle '{file}'.*only safetensors are read"):
            make_baselines([f"{kind}:{folder}"], default_process)


def test_files_of_other_runtimes_and_of_training_are_ignored(tmp_path):
    for file in ("training_args.bin", "openvino/openvino_model.bin", "onnx/model.bin"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    check_pickles(tmp_path, "model")


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "README.md"])
def test_pipes_in_models_are_refused(tiny_sd, tmp_path, name):
    """A pipe without a writer would block."""
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "model"))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"has a {Path(name).name} that is not a regular file"):
        conjure.load(folder)


def test_pipes_in_baselines_are_refused(default_process, tmp_path):
    folder = save_bert(tmp_path / "bert")
    os.mkfifo(folder / "generation_config.json")
    with pytest.raises(InputError, match=r"has a generation_config\.json that is not a regular file"):
        make_baselines([f"mean:{folder}"], default_process)


def test_adapters_are_refused(default_process, tmp_path):
    """transformers would load the base model that an adapter names."""
    folder = save_bert(tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/model", "peft_type": "LORA"}))
    with pytest.raises(InputError, match="is an adapter; merge it|adapter_config"):
        make_baselines([f"mean:{folder}"], default_process)
