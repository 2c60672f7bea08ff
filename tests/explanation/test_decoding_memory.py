"""Images that do not fit into memory together are decoded in smaller batches."""

from __future__ import annotations

import numpy as np
import torch

import conjure


def test_smaller_batches_of_the_decoder_give_the_same_images(tiny_sd, monkeypatch):
    process = conjure.load(tiny_sd, steps=2)
    expected = conjure.explain(process, "snow leopard", "bengal tiger", samples=1)
    decode = process.pipeline.vae.decode

    def decode_up_to_two(latents, *args, **kwargs):
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return decode(latents, *args, **kwargs)

    monkeypatch.setattr(process.pipeline.vae, "decode", decode_up_to_two)
    explanation = conjure.explain(process, "snow leopard", "bengal tiger", samples=1)
    np.testing.assert_allclose(explanation.forward.x0_first, expected.forward.x0_first, atol=1e-4)
