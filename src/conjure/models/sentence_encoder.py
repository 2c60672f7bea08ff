"""The text encoder of the default model: it encodes a text of any length as one vector."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float, Int
from torch import Tensor
from transformers import BertModel, PreTrainedModel

# diffusers looks up the base class, which defines how weights are loaded, in the module of the class
__all__ = ["PreTrainedModel", "SentenceEncoder", "use_constant_text_attention"]


class SentenceEncoder(BertModel):
    """A BERT that returns the vector of the text as the state of every token, so that cross-attention receives only this vector.

    The encoder was trained to separate texts by these vectors. Their cosines correlate far better with human ratings than those
    of its token states.
    """

    # The module name that diffusers writes into model_index.json. It must not change, so that existing folders can be loaded.
    __module__ = "conjure.sentence_encoder"

    def __init__(self, config: Any, add_pooling_layer: bool = False) -> None:
        # Nothing uses the pooler of BERT. A saved folder does not have it, so that loading must not make one of random weights
        super().__init__(config, add_pooling_layer=add_pooling_layer)

    def forward(self, input_ids: Int[Tensor, "texts tokens"], attention_mask: Int[Tensor, "texts tokens"], **options: Any) -> Any:
        """Return the output of BERT with another `last_hidden_state`.

        Args:
            input_ids: The tokens of the texts.
            attention_mask: 1 for tokens of the text, 0 for padding.
            options: Further arguments of `BertModel.forward`.

        Returns:
            An output whose `last_hidden_state` has shape (texts, tokens, dimensions): the mean state of the unmasked tokens,
            scaled to a mean square of 1 and repeated for all tokens.
        """
        longest = int(attention_mask.sum(1).max())  # pipelines pad to their limit, which would be most of the computation
        mask = attention_mask[:, :longest]
        output = super().forward(input_ids=input_ids[:, :longest], attention_mask=mask, **options)
        states = output[0].float()
        mean = torch.nn.functional.normalize((states * mask[..., None]).sum(1, keepdim=True), dim=-1) * states.shape[-1] ** 0.5
        output.last_hidden_state = mean.to(output[0].dtype).expand(-1, input_ids.shape[1], -1)
        return output


class ConstantTextAttnProcessor:
    """Cross-attention to a text whose token states are all equal: for every query the output is the value of that state.

    No attention weights are needed. The output depends only on the text, so it is computed once for all steps
    (`conjure.diffusion.memoization`).
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "rows tokens width"],
        encoder_hidden_states: Float[Tensor, "rows text_tokens text_width"],
        attention_mask: Any = None,
        **_: Any,
    ) -> Float[Tensor, "rows tokens width"]:
        """Return the output of the attention layer `attn`."""
        values = attn.to_out[0](attn.to_v(encoder_hidden_states[:, :1]))
        return values.expand(-1, hidden_states.shape[1], -1)


def use_constant_text_attention(denoiser: torch.nn.Module) -> None:
    """Set a `ConstantTextAttnProcessor` in all cross-attention layers of `denoiser`."""
    for module in denoiser.modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            module.set_processor(ConstantTextAttnProcessor())  # type: ignore[arg-type]
