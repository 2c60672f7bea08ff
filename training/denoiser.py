"""The denoiser: a diffusion transformer over the latents, conditioned on one embedding vector per text."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from diffusers.models.embeddings import PixArtAlphaTextProjection

from recipe import HEAD_DIMENSIONS, SHIPPED, Recipe

EMBEDDING_DIMENSIONS = 384  # of the text encoder
GELU_SHIFT = 8.0  # for inputs of unit variance around this value, GELU is the identity


def build(recipe: Recipe = SHIPPED) -> PixArtTransformer2DModel:
    """Return an untrained denoiser with 16 tokens, each of 2x2 latents. With few tokens a step is fast on a CPU."""
    model = PixArtTransformer2DModel(
        num_attention_heads=recipe.heads,
        attention_head_dim=HEAD_DIMENSIONS,
        num_layers=recipe.layers,
        in_channels=16,
        out_channels=16,
        sample_size=8,
        patch_size=2,
        cross_attention_dim=HEAD_DIMENSIONS * recipe.heads,
        caption_channels=EMBEDDING_DIMENSIONS,
        interpolation_scale=1,
        use_additional_conditions=False,
    )
    torch.nn.init.zeros_(model.proj_out.weight)  # a zero output layer is the usual initialisation of diffusion transformers
    torch.nn.init.zeros_(model.proj_out.bias)
    if not recipe.trainable_projection:
        _make_rotation(model.caption_projection)
    return model


def _make_rotation(projection: PixArtAlphaTextProjection) -> None:
    """Replace the caption projection by a random rotation to fewer dimensions, and freeze it.

    A trained projection collapses to the few directions in which the names of drawings differ most, so that other differences
    between texts are lost: the Spearman correlation with human ratings on STS-B dev falls from 0.88 (the embeddings) to 0.74
    behind the projection, and the later layers do not recover it.
    """
    first, second = projection.linear_1, projection.linear_2
    torch.nn.init.orthogonal_(first.weight)
    torch.nn.init.eye_(second.weight)
    torch.nn.init.constant_(first.bias, GELU_SHIFT)
    torch.nn.init.constant_(second.bias, -GELU_SHIFT)
    projection.requires_grad_(False)


def make_scheduler() -> DDPMScheduler:
    """Return the noise schedule of Stable Diffusion, with velocity as the prediction target."""
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction")


def predict(model: PixArtTransformer2DModel, x_t: torch.Tensor, t: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return the predictions for noisy latents under several texts each.

    Args:
        model: The denoiser.
        x_t: The noisy latents, shape (images, 16, 8, 8).
        t: The timesteps, shape (images,).
        vectors: The text embeddings, shape (images, texts, 384).

    Returns:
        The predicted velocities, float32 of shape (images, texts, 16, 8, 8).
    """
    num_texts = vectors.shape[1]
    x_t, t = x_t.repeat_interleave(num_texts, 0), t.repeat_interleave(num_texts)
    prediction = model(x_t, encoder_hidden_states=vectors.flatten(0, 1)[:, None], timestep=t).sample
    return prediction.float().unflatten(0, (-1, num_texts))


@torch.no_grad()
def flatten_spectrum(model: PixArtTransformer2DModel, vectors: torch.Tensor, power: float) -> None:
    """Flatten the singular values of the cross-attention of each layer, in place.

    For a text that is a single vector, cross-attention is a linear map: the product W of its output and value matrices. Training
    reduces the effective rank of W to 17 to 32 of 320, so that many differences between texts have little effect. With
    W = U diag(s) V^T, this function replaces s by c s^power, where c keeps the Frobenius norm of W. It adjusts the biases so
    that the output for the mean text does not change. Distances between texts can grow, because all directions are treated
    alike, although the embeddings vary more along some than along others.

    Args:
        model: The denoiser.
        vectors: The embeddings of the captions, shape (captions, 384). Their mean is the mean text.
        power: 1 keeps the singular values, 0 makes them equal.
    """
    mean_text = model.caption_projection(vectors.float().mean(0))
    for block in model.transformer_blocks:
        value, out = block.attn2.to_v, block.attn2.to_out[0]
        mean_output = out(value(mean_text))
        u, s, vt = torch.linalg.svd(out.weight @ value.weight)
        flattened = s**power
        root = (flattened * s.norm() / flattened.norm()).sqrt()
        value.weight.copy_(root[:, None] * vt)
        out.weight.copy_(u * root)
        value.bias.zero_()  # its constant contribution is included in the other bias
        out.bias.add_(mean_output - out(value(mean_text)))
