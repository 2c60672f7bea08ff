"""The text encoder of the default model as a condition: a text is one vector, whatever its number of tokens."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from transformers import BertModel, PreTrainedModel

# diffusers looks beside a class for the one that tells how to load it
__all__ = ["PreTrainedModel", "SentenceEncoder", "hear_one_vector"]


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


class OneVector:
    """Cross-attention to a text whose token states are all the same: whatever is asked of it, the answer is their value.

    So it need not be asked. What is left depends on the text alone, and is computed once for all steps (`conjure.steady`).
    """

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, attention_mask: Any = None, **_: Any
    ) -> torch.Tensor:
        """What attention gives, for `hidden_states` (rows, tokens, width) and states of texts (rows, text tokens, width)."""
        told = attn.to_out[0](attn.to_v(encoder_hidden_states[:, :1]))
        return told.expand(-1, hidden_states.shape[1], -1)


def hear_one_vector(denoiser: torch.nn.Module) -> None:
    """Let the cross-attention of a `denoiser` make use of its texts being one vector each, as those of `SentenceEncoder` are."""
    for part in denoiser.modules():
        if isinstance(part, Attention) and part.is_cross_attention:
            part.set_processor(OneVector())  # type: ignore[arg-type]
