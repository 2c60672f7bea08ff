"""Modular pipelines of diffusers, called as its stock pipelines are.

They too step through `pipeline.scheduler`. What differs is made good here: their blocks have inputs instead of the parameters of
a call, guidance is the business of a guider instead of an argument, and some would decode latents that nobody wants to see.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import ModularPipeline

from conjure.errors import InputError

MODULAR_INDEX = ModularPipeline.config_name
WORKFLOW = "text2image"


class _Called:
    """Put before a modular class, it makes the inputs of the blocks, and the guider's scale, the parameters of the call."""

    @property
    def __signature__(self: Any) -> inspect.Signature:
        defaults = {one.name: one.default for one in self._blocks.inputs if one.name}
        guider = getattr(self, "guider", None)
        if guider is not None and "guidance_scale" in guider.config:  # 1 is no guidance, and some are off until asked for
            defaults["guidance_scale"] = guider.config.guidance_scale if guider.config.get("enabled", True) else 1.0
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature([inspect.Parameter(name, kind, default=value) for name, value in defaults.items()])

    def __call__(self: Any, **inputs: Any) -> Any:
        blocks, guider = self._blocks, getattr(self, "guider", None)
        latent = inputs.get("output_type") == "latent"
        try:
            if latent:  # Z-Image and Qwen-Image would decode all the same
                self._blocks = self.blocks
                for name in [name for name in self._blocks.sub_blocks if name.startswith("decode")]:
                    self._blocks.sub_blocks.pop(name)
                del inputs["output_type"]
            if guider is not None:
                self.guider = copy.copy(guider)  # it remembers the step that a run ended at
                if "guidance_scale" in inputs:
                    self.guider.guidance_scale = inputs.pop("guidance_scale")
                    self.guider.enable()
            return SimpleNamespace(images=super().__call__(output="latents" if latent else "images", **inputs))  # type: ignore[misc]
        finally:
            self._blocks = blocks
            if guider is not None:
                self.guider = guider


def modular_pipeline(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The text-to-image pipeline that `ModularPipeline.save_pretrained` wrote to `folder`, from what lies there alone."""
    index = json.loads((folder / MODULAR_INDEX).read_text())
    known, named = getattr(diffusers, index["_class_name"]), index.get("_blocks_class_name")
    blocks: Any = getattr(diffusers, str(named), None)
    if not getattr(blocks, "block_classes", None):  # diffusers would take others in silence
        raise InputError(f"model {name!r} has the blocks {named!r}, which are none of diffusers {diffusers.__version__}")
    if WORKFLOW not in (blocks._workflow_map or ()) or "images" not in blocks().output_names:
        raise InputError(f"model {name!r} ({named}) is not a text-to-image pipeline; Conjure compares what texts conjure")
    kind = type(known.__name__, (_Called, known), {})
    pipeline = kind(pretrained_model_name_or_path=str(folder), workflow=WORKFLOW, local_files_only=True)
    options = {"dtype": dtype, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    for part in pipeline.pretrained_component_names:  # one by one, as `load_components` goes on without what it cannot load
        spec = pipeline.get_component_spec(part)
        if spec.pretrained_model_name_or_path is not None:
            pipeline.register_components(**{part: spec.load(pretrained_model_name_or_path=str(folder), **options)})
    return pipeline
