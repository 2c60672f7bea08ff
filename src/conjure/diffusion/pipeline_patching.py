"""Temporary patches of a pipeline: another scheduler, deduplicated rows, cached text embeddings, and truncation warnings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import DiffusionPipeline

from conjure.diffusion.deduplication import TextEmbeddingCache, deduplicate_rows
from conjure.diffusion.tokenizers import TruncationWarningTokenizer, is_tokenizer
from conjure.io.logging import suppress_truncation_logs

AUTOENCODERS = ("vae", "movq", "vqvae")
UNPATCHED_COMPONENTS = (*AUTOENCODERS, "safety_checker", "image_encoder")


@contextlib.contextmanager
def patched_pipeline(
    pipeline: DiffusionPipeline,
    scheduler: Any,
    text_cache: TextEmbeddingCache,
    lock: threading.RLock,
    *,
    max_rows: int | None,
    max_prompt_tokens: float,
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
    """
    with lock, suppress_truncation_logs(pipeline), contextlib.ExitStack() as stack:
        original_scheduler = pipeline.scheduler
        stack.callback(setattr, pipeline, "scheduler", original_scheduler)
        pipeline.scheduler = scheduler
        pipeline.set_progress_bar_config(disable=True)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and name.startswith("text_encoder"):
                stack.enter_context(text_cache.cached_encoder(part, name))
            elif isinstance(part, torch.nn.Module) and name not in UNPATCHED_COMPONENTS:
                stack.enter_context(deduplicate_rows(part, max_rows))
            elif is_tokenizer(part):
                # Not through DiffusionPipeline.__setattr__, which would write the wrapper's class into the configuration
                stack.callback(pipeline.__dict__.__setitem__, name, part)
                pipeline.__dict__[name] = TruncationWarningTokenizer(part, max_prompt_tokens)
        yield pipeline
