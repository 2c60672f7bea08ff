"""The text encoder of the default model as a condition: a text is one vector, whatever its number of tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertModel


class SentenceEncoder(BertModel):
    """A BERT each of whose token states is the vector of the whole text, so that cross-attention hears just that.

    The encoder was trained to tell texts apart by these vectors, and their distances agree with people far better than those of
    its token states do (training/README.md).
    """

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        """`last_hidden_state`: shape (texts, tokens, dimensions), the mean state of the tokens that `attention_mask` marks,
        scaled to a mean square of 1, and the same for all tokens of a text."""
        told = super().forward(input_ids=input_ids, attention_mask=attention_mask, **options)
        states, real = told[0].float(), attention_mask[..., None]
        mean = torch.nn.functional.normalize((states * real).sum(1, keepdim=True), dim=-1) * states.shape[-1] ** 0.5
        told.last_hidden_state = mean.to(told[0].dtype).expand_as(states)
        return told
