"""The text encoder of the default model as a condition: a text is one vector, whatever its number of tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertModel, PreTrainedModel

__all__ = ["PreTrainedModel", "SentenceEncoder"]  # diffusers looks beside a class for the one that tells how to load it


class SentenceEncoder(BertModel):
    """A BERT each of whose token states is the vector of the whole text, so that cross-attention hears just that.

    The encoder was trained to tell texts apart by these vectors, and their distances agree with people far better than those of
    its token states do (training/README.md).
    """

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        """`last_hidden_state`: shape (texts, tokens, dimensions), the mean state of the tokens that `attention_mask` marks,
        scaled to a mean square of 1, and the same for all tokens of a text."""
        longest = int(attention_mask.sum(1).max())  # pipelines pad to their limit, which would be most of the work
        real = attention_mask[:, :longest]
        told = super().forward(input_ids=input_ids[:, :longest], attention_mask=real, **options)
        states = told[0].float()
        mean = torch.nn.functional.normalize((states * real[..., None]).sum(1, keepdim=True), dim=-1) * states.shape[-1] ** 0.5
        told.last_hidden_state = mean.to(told[0].dtype).expand(-1, input_ids.shape[1], -1)
        return told
