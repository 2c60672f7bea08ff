"""Modular pipelines of diffusers, with the calling convention of its stock pipelines.

They also step through `pipeline.scheduler`. This module removes four differences: their blocks have inputs instead of call
parameters, a guider sets the guidance instead of an argument, some need a negative prompt, and some decode latents although
`output_type` is `latent`.
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

from conjure.diffusion.weight_variants import variant_of
from conjure.errors import InputError

MODULAR_INDEX = ModularPipeline.config_name
WORKFLOW = "text2image"


class CallSignatureMixin:
    """Mixin that makes the inputs of the blocks and the scale of the guider call parameters of a Modular pipeline.

    The default negative prompt is an empty text, as in stock pipelines. Without one, some blocks would encode one empty text for
    the whole batch, and others would run the network without a text.
    """

    @property
    def __signature__(self: Any) -> inspect.Signature:
        defaults = {block_input.name: block_input.default for block_input in self._blocks.inputs if block_input.name}
        if defaults.get("negative_prompt", "") is None and not self.config.get("force_zeros_for_empty_prompt"):
            defaults["negative_prompt"] = ""
        guider = getattr(self, "guider", None)
        if guider is not None and "guidance_scale" in guider.config:  # 1 is no guidance, and some guiders are disabled by default
            defaults["guidance_scale"] = guider.config.guidance_scale if guider.config.get("enabled", True) else 1.0
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature([inspect.Parameter(name, kind, default=value) for name, value in defaults.items()])

    def __call__(self: Any, **inputs: Any) -> Any:
        blocks, guider = self._blocks, getattr(self, "guider", None)
        wants_latents = inputs.get("output_type") == "latent"
        parameters = self.__signature__.parameters
        if "negative_prompt" in parameters:
            inputs.setdefault("negative_prompt", parameters["negative_prompt"].default)
        try:
            if wants_latents:  # Z-Image and Qwen-Image would decode despite the output type
                self._blocks = self.blocks
                for name in [name for name in self._blocks.sub_blocks if name.startswith("decode")]:
                    self._blocks.sub_blocks.pop(name)
                del inputs["output_type"]
            if guider is not None:
                self.guider = copy.copy(guider)  # a guider stores the current step, so the original is not used
                if "guidance_scale" in inputs:
                    self.guider.guidance_scale = inputs.pop("guidance_scale")
                    self.guider.enable()
            output = "latents" if wants_latents else "images"
            return SimpleNamespace(images=super().__call__(output=output, **inputs))  # type: ignore[misc]
        finally:
            self._blocks = blocks
            if guider is not None:
                self.guider = guider


def modular_pipeline(folder: Path, name: str, dtype: torch.dtype, variant: str | None = None) -> Any:
    """Load a text-to-image pipeline that `ModularPipeline.save_pretrained` wrote, without downloads.

    Args:
        folder: The folder.
        name: The name of the model, for messages.
        dtype: The type of the weights.
        variant: The variant of the weights, where a component has it; None for the default weights.

    Returns:
        The pipeline, with `CallSignatureMixin`.

    Raises:
        InputError: If the blocks are not part of diffusers, or are not a text-to-image pipeline.
    """
    index = json.loads((folder / MODULAR_INDEX).read_text())
    cls, blocks_name = getattr(diffusers, index["_class_name"]), index.get("_blocks_class_name")
    blocks: Any = getattr(diffusers, str(blocks_name), None)
    if not getattr(blocks, "block_classes", None):  # diffusers would silently use its default blocks
        raise InputError(
            f"model {name!r} has the blocks {blocks_name!r}, which are not part of diffusers {diffusers.__version__}"
        )
    if WORKFLOW not in (blocks._workflow_map or ()) or "images" not in blocks().output_names:
        raise InputError(f"model {name!r} ({blocks_name}) is not a text-to-image pipeline; Conjure needs one")
    pipeline_cls = type(cls.__name__, (CallSignatureMixin, cls), {})
    pipeline = pipeline_cls(pretrained_model_name_or_path=str(folder), workflow=WORKFLOW, local_files_only=True)
    options = {"dtype": dtype, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    for part in pipeline.pretrained_component_names:  # one by one, since `load_components` skips what it cannot load
        spec = pipeline.get_component_spec(part)
        if spec.pretrained_model_name_or_path is not None:
            has_variant = any(variant_of(path.name) == variant for path in (folder / part).glob("*.*"))
            chosen = {"variant": variant} if variant and has_variant else {}
            pipeline.register_components(**{part: spec.load(pretrained_model_name_or_path=str(folder), **options, **chosen)})
    return pipeline
