"""Temporary patches of a pipeline: scheduler, deduplicated rows, cached text embeddings, warnings, and no safety checker."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import DiffusionPipeline

from conjure.diffusion.decoding import finite_decoding
from conjure.diffusion.deduplication import TextEmbeddingCache, deduplicate_rows
from conjure.diffusion.row_independence import has_added_code
from conjure.diffusion.tokenizers import TruncationWarningTokenizer, is_tokenizer
from conjure.errors import SafetyCheckerWarning
from conjure.io.logging import suppress_truncation_logs
from conjure.user_warnings import warn_user

AUTOENCODERS = ("vae", "movq", "vqvae")
# What text encoders return passes through it, so it must not depend on the other texts of a batch either, not even in rounding
PROJECTION = "projection_model"
# Besides autoencoders: a network that prepares texts and keeps a state between its calls, and networks for images and sounds
UNPATCHED_COMPONENTS = (*AUTOENCODERS, "safety_checker", "image_encoder", "language_model", "motion_adapter", "vocoder")
# diffusers installs its hooks for offloading again at the end of every call
OFFLOADING_ATTRIBUTES = ("_all_hooks", "_offload_device", "_offload_gpu_id")

_warned_pipelines: weakref.WeakSet[DiffusionPipeline] = weakref.WeakSet()


@contextlib.contextmanager
def patched_pipeline(
    pipeline: DiffusionPipeline,
    scheduler: Any,
    text_cache: TextEmbeddingCache,
    lock: threading.RLock,
    *,
    max_rows: int | None,
    max_prompt_tokens: float,
    single_row: bool,
) -> Iterator[DiffusionPipeline]:
    """Context manager with the patched pipeline; the patches are removed afterwards.

    Args:
        pipeline: The pipeline.
        scheduler: The scheduler that replaces the pipeline's.
        text_cache: The embeddings of texts that were encoded before.
        lock: Held while the patches are active, since a pipeline cannot run twice at the same time.
        max_rows: The largest number of rows in one call of the denoiser; None for no limit.
        max_prompt_tokens: The number of prompt tokens that the pipeline keeps after encoding; infinity if it does not truncate
            them.
        single_row: Whether the run has one row. Networks with added code are then called as the pipeline calls them.
    """
    with lock, suppress_truncation_logs(pipeline), restored_pipeline(pipeline), contextlib.ExitStack() as stack:
        # Not through DiffusionPipeline.__setattr__, which would write the class into the configuration, and which imports the
        # compiler of torch
        pipeline.__dict__["scheduler"] = scheduler
        pipeline.set_progress_bar_config(disable=True)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and _encodes_texts(name):
                stack.enter_context(text_cache.cached_encoder(part, name))
            elif isinstance(part, torch.nn.Module) and name in AUTOENCODERS:
                stack.enter_context(finite_decoding(part))
            elif _is_merging(name, part) and not (single_row and has_added_code(part)):
                stack.enter_context(deduplicate_rows(part, max_rows))
            elif is_tokenizer(part):
                stack.callback(setattr, part, "padding_side", part.padding_side)  # some pipelines set another
                pipeline.__dict__[name] = TruncationWarningTokenizer(part, max_prompt_tokens)
        if getattr(pipeline, "safety_checker", None) is not None:
            pipeline.__dict__["safety_checker"] = None  # it would replace images by black ones
        yield pipeline


def needs_single_rows(pipeline: DiffusionPipeline) -> bool:
    """Return whether each row must run alone, because a network has added code (see `row_independence`)."""
    return any(_is_merging(name, part) and has_added_code(part) for name, part in pipeline.components.items())


def _is_merging(name: str, part: Any) -> bool:
    """Return whether equal rows of a component are merged. Text encoders are called with one text at a time."""
    return isinstance(part, torch.nn.Module) and not _encodes_texts(name) and name not in UNPATCHED_COMPONENTS


def is_text_encoder(name: str) -> bool:
    """Return whether a component of a pipeline is a text encoder, by its name."""
    return name.startswith("text_encoder")


def _encodes_texts(name: str) -> bool:
    """Return whether a component is a text encoder, or a projection of what text encoders return."""
    return is_text_encoder(name) or name.startswith(PROJECTION)


@contextlib.contextmanager
def restored_pipeline(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Context manager after which a pipeline is as before, also after an exception.

    Restored are its attributes (components, configuration, progress bar), the attention processors, and the padding and
    truncation of the tokenizers.
    """
    attributes = {name: value for name, value in vars(pipeline).items() if name not in OFFLOADING_ATTRIBUTES}
    components = list(pipeline.components.values())
    modules = [module for part in components if isinstance(part, torch.nn.Module) for module in part.modules()]
    # Perturbed-attention pipelines replace processors, and do not put them back if an error is raised
    processors = [(module, module.processor) for module in modules if hasattr(module, "processor")]
    tokenizers = [(part, _tokenizer_state(part)) for part in components if hasattr(part, "padding_side")]
    try:
        yield
    finally:
        for name in vars(pipeline).keys() - attributes.keys() - set(OFFLOADING_ATTRIBUTES):
            del pipeline.__dict__[name]
        pipeline.__dict__.update(attributes)
        for module, processor in processors:
            if module.processor is not processor:
                module.processor = processor
        for tokenizer, state in tokenizers:
            _restore_tokenizer(tokenizer, state)


def _tokenizer_state(tokenizer: Any) -> tuple[dict[str, Any], Any, Any]:
    sides = {name: getattr(tokenizer, name) for name in ("padding_side", "truncation_side") if hasattr(tokenizer, name)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return sides, getattr(backend, "truncation", None), getattr(backend, "padding", None)


def _restore_tokenizer(tokenizer: Any, state: tuple[dict[str, Any], Any, Any]) -> None:
    sides, truncation, padding = state
    for name, side in sides.items():
        setattr(tokenizer, name, side)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    backend.enable_truncation(**truncation) if truncation else backend.no_truncation()
    backend.enable_padding(**padding) if padding else backend.no_padding()


def warn_of_safety_checker(pipeline: DiffusionPipeline) -> None:
    """Warn that the safety checker of a pipeline is switched off while images are decoded, once per pipeline."""
    if getattr(pipeline, "safety_checker", None) is not None and pipeline not in _warned_pipelines:
        _warned_pipelines.add(pipeline)
        warn_user(
            "the safety checker of the pipeline is switched off while Conjure decodes images, since it would replace some "
            "of them by black images",
            SafetyCheckerWarning,
        )
