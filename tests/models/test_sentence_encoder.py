"""The text encoder of the default model encodes a text as one vector, and cross-attention to it has a closed form."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import AutoModel, PreTrainedModel

import conjure.sentence_encoder
from conjure.models import default_model


def test_the_module_that_model_folders_name_exports_the_classes():
    assert conjure.sentence_encoder.SentenceEncoder.__module__ == "conjure.sentence_encoder"
    assert conjure.sentence_encoder.PreTrainedModel is PreTrainedModel
    assert issubclass(conjure.sentence_encoder.SentenceEncoder, PreTrainedModel)


@pytest.fixture(scope="module")
def encoder():
    return default_model.text_encoder()


def test_all_token_states_are_the_vector_of_the_text(encoder):
    """The vector is the mean state of all-MiniLM-L6-v2 over the tokens, and does not depend on the other texts of a batch."""
    texts = ["a dog", "two children are playing in the park"]
    tokenizer = default_model.tokenizer()
    tokens = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    states = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    reference = AutoModel.from_pretrained(default_model.encoder_folder())
    for text, text_states in zip(texts, states, strict=True):
        with torch.inference_mode():
            mean = reference(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].mean(0)
        expected = (mean / mean.square().mean().sqrt()).expand(16, 384)
        torch.testing.assert_close(text_states, expected, rtol=1e-4, atol=1e-4)


def test_constant_text_attention_equals_attention(default_process):
    """The closed form of cross-attention to a constant text gives the predictions of the attention of diffusers."""
    denoiser = default_process.pipeline.transformer
    states, mask, *_ = default_process.pipeline.encode_prompt(["a dog", "rain on a long road"], do_classifier_free_guidance=False)
    inputs = {"encoder_hidden_states": states, "encoder_attention_mask": mask, "timestep": torch.tensor([500, 20])}
    x_t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = denoiser(x_t, **inputs).sample
    attentions = [block.attn2 for block in denoiser.transformer_blocks]
    processors = [attention.processor for attention in attentions]
    assert not any(isinstance(processor, AttnProcessor2_0) for processor in processors)
    try:
        for attention in attentions:
            attention.set_processor(AttnProcessor2_0())
        torch.testing.assert_close(prediction, denoiser(x_t, **inputs).sample, rtol=1e-4, atol=1e-5)
    finally:
        for attention, processor in zip(attentions, processors, strict=True):
            attention.set_processor(processor)
