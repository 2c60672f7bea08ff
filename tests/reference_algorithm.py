"""Denoisers with classifier-free guidance, as `conjure.reference.algorithm_1` calls them: one text at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from conjure.reference import GuidedPrediction


def guided_pixart(pipeline: Any, guidance: float, max_tokens: int) -> GuidedPrediction:
    """Return the guided prediction of a PixArt transformer.

    Args:
        pipeline: A pipeline with a transformer of PixArt.
        guidance: The classifier-free guidance scale.
        max_tokens: The number of tokens to which a text is padded or truncated.
    """
    embeddings: dict[str, tuple[Tensor, Tensor]] = {}

    def embed(text: str) -> tuple[Tensor, Tensor]:
        if text not in embeddings:
            tokens = pipeline.tokenizer(text, padding="max_length", max_length=max_tokens, truncation=True, return_tensors="pt")
            states = pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            embeddings[text] = states, tokens.attention_mask.float()
        return embeddings[text]

    def predict(x_t: Tensor, t: Any, text: str) -> Tensor:
        states, mask = (torch.cat(parts) for parts in zip(embed(""), embed(text), strict=True))
        prediction = pipeline.transformer(
            x_t.repeat(2, 1, 1, 1),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            timestep=torch.as_tensor(t).expand(2),
        ).sample
        return _with_guidance(prediction, guidance)

    return predict


def guided_unet(pipeline: Any, guidance: float) -> GuidedPrediction:
    """Return the guided prediction of the UNet of Stable Diffusion.

    Args:
        pipeline: A pipeline of Stable Diffusion.
        guidance: The classifier-free guidance scale.
    """
    embeddings: dict[str, Tensor] = {}

    def embed(text: str) -> Tensor:
        if text not in embeddings:
            max_tokens = pipeline.tokenizer.model_max_length
            tokens = pipeline.tokenizer(text, padding="max_length", max_length=max_tokens, truncation=True, return_tensors="pt")
            embeddings[text] = pipeline.text_encoder(tokens.input_ids.to(pipeline.device))[0]
        return embeddings[text]

    def predict(x_t: Tensor, t: Any, text: str) -> Tensor:
        states = torch.cat([embed(""), embed(text)])
        return _with_guidance(pipeline.unet(x_t.repeat(2, 1, 1, 1), t, encoder_hidden_states=states).sample, guidance)

    return predict


def _with_guidance(prediction: Tensor, guidance: float) -> Tensor:
    unconditional, conditional = prediction.split(1)
    return unconditional + guidance * (conditional - unconditional)
