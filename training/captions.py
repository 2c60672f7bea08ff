"""The texts that are trained on, as the vectors by which the model hears them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.progress import track

import loop
from conjure.default_model import text_encoder, tokenizer

LIMIT = 64  # tokens a text may have


class Captions:
    """The frozen encoder's vectors of texts, float16 of shape (texts, 384), computed once. Number 0 is the empty text."""

    def __init__(self, texts: Iterable[str], cache: Path) -> None:
        self.texts = ["", *sorted(set(texts))]
        self._number = {text: i for i, text in enumerate(self.texts)}
        store = cache / f"captions-{LIMIT}-{hashlib.sha256(chr(0).join(self.texts).encode()).hexdigest()[:12]}.pt"
        if not store.exists():
            torch.save(self._encode(), store.with_suffix(".partial"))
            store.with_suffix(".partial").rename(store)
        self.vectors: torch.Tensor = torch.load(store, weights_only=True)

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """The numbers of those of `texts` that are here."""
        return [self._number[text] for text in texts if text in self._number]

    @torch.inference_mode()
    def _encode(self) -> torch.Tensor:
        encoder, words = text_encoder().to(loop.DEVICE), tokenizer()
        vectors = torch.empty(len(self.texts), encoder.config.hidden_size, dtype=torch.float16)
        by_length = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
        for at in track(range(0, len(by_length), 128), "encoding captions"):
            part = by_length[at : at + 128]
            batch = words([self.texts[i] for i in part], padding=True, truncation=True, max_length=LIMIT, return_tensors="pt")
            states = encoder(batch.input_ids.to(loop.DEVICE), attention_mask=batch.attention_mask.to(loop.DEVICE))[0]
            vectors[part] = states[:, 0].half().cpu()
        return vectors
