"""Stage two: a diffusion transformer over the latents, which sees a text as the token states of all-MiniLM-L6-v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from rich.progress import track

import loop
from conjure.default_model import text_encoder, tokenizer
from views import Views

SCHEDULE = loop.Schedule(samples=336_000, batch=64, rate=1e-3, warmup=500)
LIMIT = 64  # tokens a text may have
DROPPED = 0.1  # share of texts replaced by the empty one, which classifier-free guidance needs


def build() -> PixArtTransformer2DModel:
    """Sixteen tokens of 2x2 latents: on a CPU, few tokens and matrix products are the way."""
    model = PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=64, num_layers=8, in_channels=16, out_channels=16, sample_size=8, patch_size=2,
        cross_attention_dim=256, caption_channels=384, interpolation_scale=1, use_additional_conditions=False,
    )  # fmt: skip
    torch.nn.init.zeros_(model.proj_out.weight)  # starts by predicting nothing, as diffusion transformers train best
    torch.nn.init.zeros_(model.proj_out.bias)
    return model


def scheduler() -> DDPMScheduler:
    """The noise of Stable Diffusion, with velocity as the target."""
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction")


class Captions:
    """The frozen encoder's states of every caption, computed once: `states[i]` is (tokens, 384) in float16."""

    def __init__(self, captions: list[list[str]], cache: Path) -> None:
        self.texts = ["", *sorted({text for texts in captions for text in texts})]
        number = {text: i for i, text in enumerate(self.texts)}
        self.of_view = [[number[text] for text in texts] for texts in captions]
        store = cache / "captions.pt"
        saved = torch.load(store, weights_only=True) if store.exists() else {}
        self.states: list[torch.Tensor] = saved["states"] if saved.get("texts") == self.texts else self._encode()
        torch.save({"texts": self.texts, "states": self.states}, store)

    @torch.inference_mode()
    def _encode(self) -> list[torch.Tensor]:
        encoder, words = text_encoder(), tokenizer()
        states = [torch.empty(0)] * len(self.texts)
        by_length = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
        for at in track(range(0, len(by_length), 128), "encoding captions"):
            part = by_length[at : at + 128]
            batch = words([self.texts[i] for i in part], padding=True, truncation=True, max_length=LIMIT, return_tensors="pt")
            encoded = encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]
            for i, state, mask in zip(part, encoded, batch.attention_mask, strict=True):
                states[i] = state[: int(mask.sum())].half().clone()
        return states

    def batch(self, views: np.ndarray, choose: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A caption for each view, or none: states (len(views), tokens, 384) and their mask."""
        drawn = [0 if choose.random() < DROPPED else choose.choice(self.of_view[view]) for view in views]
        states = torch.nn.utils.rnn.pad_sequence([self.states[i].float() for i in drawn], batch_first=True)
        lengths = torch.tensor([len(self.states[i]) for i in drawn])
        return states, (torch.arange(states.shape[1]) < lengths[:, None]).float()


def train(data: Views, latents: torch.Tensor, captions: Captions, folder: Path) -> PixArtTransformer2DModel:
    """A trained denoiser of scaled `latents`, (views, 16, 8, 8), half of the time of single pictures and half of scenes."""
    torch.manual_seed(SCHEDULE.seed)
    model, noising = build(), scheduler()

    def loss_on(rows: np.ndarray) -> loop.Loss:
        single, composed = rows[rows < len(data.data.pixels)], rows[rows >= len(data.data.pixels)]

        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            half = SCHEDULE.batch // 2
            views = np.concatenate([choose.choice(single, half), choose.choice(composed, SCHEDULE.batch - half)])
            states, mask = captions.batch(views, choose)
            x0 = latents[views].float()
            eps = torch.randn(x0.shape, generator=noise)
            t = torch.randint(0, noising.config.num_train_timesteps, (len(x0),), generator=noise)
            v = model(noising.add_noise(x0, eps, t), encoder_hidden_states=states, encoder_attention_mask=mask, timestep=t).sample
            return (v - noising.get_velocity(x0, eps, t)).square().mean()

        return loss

    loop.fit(model, SCHEDULE, loss_on(data.train), loss_on(data.held_out), folder)
    return model.eval()
