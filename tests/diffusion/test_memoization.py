"""What depends on texts alone is computed at the first step, and nothing else is taken for it."""

from __future__ import annotations

import pytest
import torch

from conjure.once import rows_once
from conjure.steady import Steady


class Part(torch.nn.Linear):
    """A projection that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.asked = 0

    def forward(self, x):
        self.asked += 1
        return super().forward(x)


class Network(torch.nn.Module):
    """Of the shape of a denoiser with cross-attention: the text is embedded, then projected, the picture goes along."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.caption, self.key = Part(), Part(), Part()

    def forward(self, x, t, text, pooled):
        states = self.caption(text).view(len(x), -1, 4)
        return (self.picture(x) + t[:, None] + self.key(states).mean(1) + pooled,)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().eval().requires_grad_(False)


def steps(network, text, pooled, times=5):
    rows, answers = len(text), []
    for step in range(times):
        x = torch.full((rows, 4), float(step))
        answers.append(network(x, torch.full((rows,), float(step)), text, pooled)[0])
    return torch.stack(answers)


@pytest.mark.parametrize(("order", "at_most"), [([0, 1, 2], None), ([0, 1, 0, 2, 1], None), ([0, 1, 0, 2, 1], 2)])
def test_texts_are_projected_once(network, order, at_most):
    text, pooled = torch.randn(3, 7, 4)[order], torch.randn(3, 4)[order]
    plain = steps(network, text, pooled)
    network.picture.asked = network.caption.asked = network.key.asked = 0
    with rows_once(network, at_most):
        once = steps(network, text, pooled)
    pieces = 2 if at_most else 1
    assert (network.picture.asked, network.caption.asked, network.key.asked) == (5 * pieces, pieces, pieces)
    torch.testing.assert_close(once, plain, rtol=0, atol=1e-6)
    assert all("forward" not in vars(part) for part in network.modules())


def test_texts_that_change_are_projected_again(network):
    """Also where they change in place, as some pipelines do, and where new ones lie where old ones lay."""
    text, pooled = torch.randn(3, 7, 4), torch.randn(3, 4)
    with rows_once(network):
        first = steps(network, text, pooled, 2)
        text += 1
        second = steps(network, text, pooled, 2)
    torch.testing.assert_close(first, steps(network, text - 1, pooled, 2))
    torch.testing.assert_close(second, steps(network, text, pooled, 2))
    with rows_once(network):
        for shift in range(5):
            moved = text + shift
            told = steps(network, moved, pooled, 3)
            del moved
            torch.testing.assert_close(told, steps(network, text + shift, pooled, 3))


def test_an_answer_that_was_edited_is_made_again(network):
    steady, text = Steady(), torch.randn(3, 4)
    plain = network.key(text)
    steady.mark(text)
    with steady.remembered(network):
        network.key(text).mul_(2)
        torch.testing.assert_close(network.key(text), plain)


def test_inference_tensors_are_never_steady(network):
    """Torch does not count their edits."""
    with torch.inference_mode(), rows_once(network):
        text, pooled = torch.randn(3, 7, 4), torch.randn(3, 4)
        first = steps(network, text, pooled, 2)
        text += 1
        assert not torch.allclose(steps(network, text, pooled, 2), first)
    assert network.caption.asked == 4


def test_memory_is_bounded(network):
    text = torch.randn(3, 4)
    steady = Steady(limit=text.nbytes)
    steady.mark(text)
    network.caption.asked = network.key.asked = 0
    with steady.remembered(network):
        for _ in range(3):
            network.caption(text)
            network.key(text)
    assert (network.caption.asked, network.key.asked) == (1, 3)


def test_compiled_parts_are_left_alone(network):
    """Another `forward` would have them compiled again in every batch."""
    network.key._compiled_call_impl = network.key.forward
    with Steady().remembered(network):
        assert "forward" in vars(network.caption)
        assert "forward" not in vars(network.key)
    network._compiled_call_impl = network.forward  # as compile() of the whole leaves it
    with Steady().remembered(network):
        assert "forward" not in vars(network.caption)
    network._compiled_call_impl = None
    network.forward = torch.compile(network.forward)
    with Steady().remembered(network):
        assert "forward" not in vars(network.caption)


def test_a_text_of_one_vector_is_not_asked(default):
    """What the default model's cross-attention gives without asking is what diffusers' own gives."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    denoiser = default.pipeline.transformer
    states, mask, *_ = default.pipeline.encode_prompt(["a dog", "rain on a long road"], do_classifier_free_guidance=False)
    given = {"encoder_hidden_states": states, "encoder_attention_mask": mask, "timestep": torch.tensor([500, 20])}
    noisy = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    said = denoiser(noisy, **given).sample
    asked = [block.attn2 for block in denoiser.transformer_blocks]
    own = [attention.processor for attention in asked]
    for attention in asked:
        attention.set_processor(AttnProcessor2_0())
    torch.testing.assert_close(said, denoiser(noisy, **given).sample, rtol=1e-4, atol=1e-5)
    for attention, processor in zip(asked, own, strict=True):
        assert not isinstance(processor, AttnProcessor2_0)
        attention.set_processor(processor)
