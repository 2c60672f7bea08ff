"""Files of adapters are found by file, folder or Hub name. Pickles are refused, and so are files that have changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import fake_hub
from conjure import InputError
from conjure.diffusion.adapter_files import find_file


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_and_folders(tmp_path):
    single = write(tmp_path / "single", "style.safetensors", "style.bin", "README.md")
    usual = write(tmp_path / "usual", "pytorch_lora_weights.safetensors", "checkpoint.safetensors")
    for name, path in [
        (single / "style.safetensors", single / "style.safetensors"),
        (single, single / "style.safetensors"),
        (usual, usual / "pytorch_lora_weights.safetensors"),
    ]:
        found = find_file(str(name), "LoRA")
        assert (found.path, found.name) == (path, str(name))
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (
            ["a.safetensors", "b.safetensors"],
            "",
            r"has several \.safetensors files \(a\.safetensors, b\.safetensors\); give one: ",
        ),
        (["lora.bin"], "", r"has only 'lora\.bin', which may be a pickle that can run code; only safetensors are read"),
        (["README.md"], "", r"has no \.safetensors file; give a folder with a \.safetensors file"),
        (["lora.pt"], "lora.pt", r"is no \.safetensors file, which may be a pickle that can run code; only safetensors are read"),
        (["lora"], "lora", r"is no \.safetensors file, which may be a pickle"),
        (["x"], "missing.safetensors", "is neither a file, a folder nor a Hub name; must be"),
    ],
)
def test_other_files_are_refused(tmp_path, files, name, message):
    write(tmp_path / "folder", *files)
    with pytest.raises(InputError, match=rf"^the LoRA '[^\n]*{message}[^\n]*$"):
        find_file(str(tmp_path / "folder" / name), "LoRA")


@pytest.mark.parametrize(
    "name", ["style", "owner/style.safetensors", "owner/style.bin", "../owner/style", "a/b/c", "owner/name@", "~/x"]
)
def test_names_that_are_on_no_hub_are_refused(name):
    with pytest.raises(InputError, match="is neither a file, a folder nor a Hub name"):
        find_file(name, "LoRA")


def test_changed_files_are_refused(tmp_path):
    file = write(tmp_path, "style.safetensors") / "style.safetensors"
    digest = find_file(str(file), "LoRA").sha256
    assert find_file(str(file), "LoRA", digest).path == file
    file.write_text("changed")
    with pytest.raises(InputError, match=rf"^the file of the LoRA '.*' has changed: .* instead of {digest[:12]}\.\.\.; put the "):
        find_file(str(file), "LoRA", digest)


def test_files_on_the_hub(hub, lines, tmp_path):
    repository = write(tmp_path / "repository", "pytorch_lora_weights.safetensors", "more/other.safetensors", "weights.bin")
    hub.folders["somebody/style"] = repository
    for name, file in [
        ("somebody/style", "pytorch_lora_weights.safetensors"),
        ("somebody/style@main", "pytorch_lora_weights.safetensors"),
        ("somebody/style/more/other.safetensors@main", "more/other.safetensors"),
    ]:
        hub.requested.clear()
        found = find_file(name, "LoRA")
        assert found.path.read_text() == file
        assert found.name == f"somebody/style/{file}@{fake_hub.COMMIT}"
        assert find_file(found.name, "LoRA", found.sha256) == found
        assert set(hub.requested) <= {f"somebody/style/{file}"}
    with pytest.raises(InputError, match=r"has no file 'none\.safetensors'; it has "):
        find_file("somebody/style/none.safetensors", "LoRA")
    with pytest.raises(InputError, match="cannot be downloaded .* there is no public repository 'somebody/nothing'"):
        find_file("somebody/nothing", "LoRA")


def test_a_file_of_peft_comes_with_its_configuration(hub, lines, tmp_path):
    hub.folders["somebody/style"] = write(tmp_path / "repository", "adapter_model.safetensors", "adapter_config.json")
    path = find_file("somebody/style", "LoRA").path
    assert path.with_name("adapter_config.json").read_text() == "adapter_config.json"
