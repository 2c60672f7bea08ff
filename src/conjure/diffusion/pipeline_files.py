"""Loading of a pipeline from a folder in the format of diffusers. No code of the folder is executed, and no weight is random."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from conjure.diffusion.complete_weights import check_initialized, complete_weights
from conjure.diffusion.hub import UNUSED_COMPONENTS
from conjure.diffusion.model_folder import check_components, read_index
from conjure.diffusion.modular import modular_pipeline
from conjure.diffusion.readable_files import readable_folder
from conjure.diffusion.weight_variants import choose_variant
from conjure.errors import InputError
from conjure.io.text import one_line
from conjure.models import default_model


def load_pipeline(folder: Path, name: str, dtype: torch.dtype, variant: str | None = None) -> Any:
    """Load the pipeline in a folder.

    Args:
        folder: The folder.
        name: The name of the model, for messages.
        dtype: The type of the weights.
        variant: The variant of the weights, such as `fp16`; None for the default weights, or the only variant.

    Raises:
        InputError: If the folder is not a complete pipeline, or has other weights than safetensors.
    """
    index = read_index(folder, name)
    components: dict[str, Any] = {}
    if default_model.uses_package_encoder(folder, index):
        components = {"text_encoder": default_model.text_encoder(), "tokenizer": default_model.tokenizer()}
    check_components(folder, name, {part: declared for part, declared in index.items() if part not in components})
    if ["conjure.sentence_encoder", "SentenceEncoder"] in index.values():
        import_module("conjure.sentence_encoder")  # diffusers accepts components of imported modules only
    # Components that a folder declares as empty must be passed as None; images are not filtered
    components |= {part: None for part, declared in index.items() if declared == [None, None] or part in UNUSED_COMPONENTS}
    files = {
        part: [path.name for path in (folder / part).iterdir()]
        for part in index
        if part not in components and (folder / part).is_dir()
    }
    chosen = choose_variant(files, variant, name)
    if "requires_safety_checker" in index:
        components["requires_safety_checker"] = False
    try:
        with readable_folder(folder, name) as readable, complete_weights(name):
            if (folder / "model_index.json").exists():
                options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
                pipeline: Any = DiffusionPipeline.from_pretrained(readable, dtype=dtype, variant=chosen, **options, **components)
            else:
                pipeline = modular_pipeline(readable, name, dtype, chosen)
        for part in components.values():
            if isinstance(part, torch.nn.Module):
                part.to(dtype)
        check_initialized(pipeline.components, name)
        default_model.optimize_cross_attention(pipeline)
    except InputError:
        raise
    except Exception as error:  # diffusers, transformers, tokenizers and safetensors each raise their own types
        raise InputError(f"model {name!r} cannot be loaded: {one_line(error)}") from error
    pipeline.register_to_config(_name_or_path=str(folder))  # instead of a temporary folder
    return pipeline


def torch_dtype(dtype: str) -> torch.dtype:
    """Return the type of weights with the name `dtype`.

    Raises:
        InputError: If the name is unknown.
    """
    dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise InputError(f"unknown dtype {dtype!r}; must be {', '.join(list(dtypes)[:-1])} or {list(dtypes)[-1]}")
    return dtypes[dtype]
