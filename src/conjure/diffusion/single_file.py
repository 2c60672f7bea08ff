"""Loading of a single checkpoint in the original format, with a configuration that is available offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import yaml
from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint
from huggingface_hub import snapshot_download

from conjure.diffusion.complete_weights import check_initialized, complete_weights
from conjure.diffusion.hub import UNUSED_COMPONENTS
from conjure.diffusion.model_folder import check_libraries, read_index
from conjure.diffusion.readable_files import readable_folder
from conjure.errors import InputError
from conjure.io.text import one_line

# Prediction types of diffusers, by their names in original configurations
PARAMETERIZATIONS = {"eps": "epsilon", "v": "v_prediction"}


def load_single_file(checkpoint: Path, name: str, dtype: torch.dtype) -> Any:
    """Load a pipeline from one file of weights. Nothing is downloaded.

    Its configuration is a folder in the format of diffusers, of which only the small files are needed: a folder beside the file
    with the same name, without its extension; or the cached folder of the model on the Hub that diffusers recognises. If the
    original configuration is beside the file, with the same name and the extension `.yaml`, its `parameterization` (`eps` or `v`)
    is the prediction type. It is the one setting that fine-tunes of a model change and tensors do not show.

    Args:
        checkpoint: The file.
        name: The name of the model, for messages.
        dtype: The type of the weights.

    Raises:
        InputError: If the file is not in safetensors, no configuration is available, or they do not fit.
    """
    if checkpoint.suffix != ".safetensors":
        raise InputError(
            f"model {name!r} is a file that may be a pickled checkpoint, which can run code; only safetensors are read: give a "
            ".safetensors file or a folder"
        )
    folder = _configuration(checkpoint, name)
    index = read_index(folder, name)
    check_libraries(index, name)
    unused: dict[str, Any] = {
        part: None for part, declared in index.items() if part in UNUSED_COMPONENTS or declared == [None, None]
    }
    if "requires_safety_checker" in index:
        unused["requires_safety_checker"] = False
    try:
        with readable_folder(folder, name) as readable, complete_weights(name):
            cls = getattr(diffusers, diffusers.DiffusionPipeline.load_config(str(readable))["_class_name"])
            pipeline = cls.from_single_file(str(checkpoint), config=str(readable), dtype=dtype, local_files_only=True, **unused)
    except InputError:
        raise
    except Exception as error:  # diffusers and safetensors each raise their own types
        raise InputError(f"model {name!r} cannot be loaded with the configuration {str(folder)!r}: {one_line(error)}") from error
    check_initialized(pipeline.components, name)
    prediction_type = _prediction_type(checkpoint, name)
    if prediction_type is not None and pipeline.scheduler.config.get("prediction_type") != prediction_type:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type=prediction_type)
    return pipeline


def _prediction_type(checkpoint: Path, name: str) -> str | None:
    """Return the prediction type in the original configuration of a checkpoint, or None if it has none."""
    path = checkpoint.with_suffix(".yaml")
    if not path.exists():
        return None
    try:
        config = yaml.safe_load(path.read_text())
        parameterization = config["model"]["params"]["parameterization"]
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {one_line(error)}") from error
    except (KeyError, TypeError):  # the configuration of another program
        return None
    if not isinstance(parameterization, str) or parameterization not in PARAMETERIZATIONS:
        raise InputError(
            f"model {name!r} has the parameterization {str(parameterization)[:80]!r} in its {path.name}; must be "
            f"{' or '.join(PARAMETERIZATIONS)}"
        )
    return PARAMETERIZATIONS[parameterization]


def _configuration(checkpoint: Path, name: str) -> Path:
    """Return the folder with the configuration of a checkpoint."""
    beside = checkpoint.with_suffix("")
    if (beside / "model_index.json").exists():
        return beside
    repository = ""
    try:
        repository = fetch_diffusers_config(load_single_file_checkpoint(str(checkpoint)))["pretrained_model_name_or_path"]
        folder = Path(snapshot_download(repository, local_files_only=True, allow_patterns=["*.json", "*.txt"]))
        if (folder / "model_index.json").exists():
            return folder
    except Exception as error:
        if not repository:
            raise InputError(f"model {name!r} cannot be read: {one_line(error)}") from error
    raise InputError(
        f"model {name!r} is a single checkpoint without its configuration; put the configuration files of {repository} (all but "
        f"the weights) into {str(beside)!r}, or convert it: DiffusionPipeline.from_single_file(file).save_pretrained(folder)"
    )
