"""Embeddings of the captions: the vectors with which the denoiser is conditioned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.progress import track

import trainer
from conjure.models.default_model import text_encoder, tokenizer

MAX_TOKENS = 64  # longer captions are truncated
BATCH_SIZE = 128


class CaptionEmbeddings:
    """Embeddings of texts by the frozen text encoder. They are computed once and then read from the cache.

    Attributes:
        texts: The texts. The first one is the empty text.
        vectors: The embedding of each text, float16 of shape (texts, 384).
    """

    def __init__(self, texts: Iterable[str], cache: Path) -> None:
        self.texts = ["", *sorted(set(texts))]
        self._index = {text: i for i, text in enumerate(self.texts)}
        digest = hashlib.sha256(chr(0).join(self.texts).encode()).hexdigest()[:12]
        store = cache / f"captions-{MAX_TOKENS}-{digest}.pt"
        if not store.exists():
            torch.save(self._encode(), store.with_suffix(".partial"))
            store.with_suffix(".partial").rename(store)
        self.vectors: torch.Tensor = torch.load(store, weights_only=True)

    def indices(self, texts: Iterable[str]) -> list[int]:
        """Return the indices of `texts`, without those that have no embedding."""
        return [self._index[text] for text in texts if text in self._index]

    @torch.inference_mode()
    def _encode(self) -> torch.Tensor:
        encoder, tokenize = text_encoder().to(trainer.DEVICE), tokenizer()
        vectors = torch.empty(len(self.texts), encoder.config.hidden_size, dtype=torch.float16)
        by_length = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
        for start in track(range(0, len(by_length), BATCH_SIZE), "encoding captions"):
            indices = by_length[start : start + BATCH_SIZE]
            texts = [self.texts[i] for i in indices]
            batch = tokenize(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(trainer.DEVICE)
            states = encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]
            vectors[indices] = states[:, 0].half().cpu()  # all token states of a text are equal: the mean state
        return vectors
