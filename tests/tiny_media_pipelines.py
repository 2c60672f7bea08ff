"""Tiny pipelines of the families of text-to-video and text-to-audio models in diffusers, as `tiny_pipelines` has of images."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers as d
import transformers as t
from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel
from diffusers.pipelines.stable_audio import StableAudioProjectionModel

from tiny_pipelines import (
    BETAS,
    BYTES,
    FALLBACK,
    HEADS,
    LINEAR,
    PRINTABLE,
    ROTARY,
    SMALL,
    SMALL_T5,
    WIDTH,
    Family,
    _vocabulary,
    clip,
    flow,
    t5,
    text,
    unet,
    vae,
)

FLAT = (8,) * 4  # channels of the four levels of an autoencoder
VIDEO: dict[str, Any] = {"height": 32, "width": 32, "frames": 5}

# Words of the template of HunyuanVideo, of which the pipeline removes the first 95 tokens
TEMPLATE = """
system user Describe the video by detailing following aspects main content and theme of color shape size texture quantity text
spatial relationships objects Actions events behaviors temporal physical movement changes background environment light style
atmosphere camera angles movements transitions used in The
""".split()  # noqa: SIM905, a list of words reads worse


def umt5() -> tuple[Any, Any]:
    """The encoder of Wan. Its tokenizer is that of T5, unlike the one of AuraFlow."""
    _, tokenizer = t5()
    return t.UMT5EncoderModel(t.UMT5Config(vocab_size=len(tokenizer), d_model=WIDTH, **SMALL_T5)), tokenizer


def llama() -> tuple[Any, Any]:
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"]
    vocabulary = _vocabulary("<unk>", "<s>", "</s>", *FALLBACK, *PRINTABLE)
    tokenizer = t.LlamaTokenizerFast(vocab=vocabulary, merges=[], pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": specials[:-1]})
    tokenizer.add_tokens([form for word in TEMPLATE for form in (f" {word}", word)])
    config = t.LlamaConfig(
        **SMALL | {"num_hidden_layers": 3}, vocab_size=len(tokenizer), num_attention_heads=2, num_key_value_heads=1, head_dim=16
    )
    return t.LlamaModel(config), tokenizer


def wan(two_denoisers: bool) -> d.DiffusionPipeline:
    def net() -> d.WanTransformer3DModel:
        size = {"in_channels": 16, "out_channels": 16, "text_dim": WIDTH, "freq_dim": 16, "ffn_dim": 32, "num_layers": 1}
        return d.WanTransformer3DModel(**HEADS, **size, rope_max_seq_len=32)

    flows = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return d.WanPipeline(
        vae=d.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        transformer=net(),
        transformer_2=net() if two_denoisers else None,
        boundary_ratio=0.875 if two_denoisers else None,
        scheduler=d.UniPCMultistepScheduler(**flows),
        **text(umt5()),
    )


def cogvideox(version: str = "1.0") -> d.DiffusionPipeline:
    joined = {"patch_size_t": 2, "use_rotary_positional_embeddings": True, "patch_bias": False} if version == "1.5" else {}
    size = {"in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": WIDTH, "num_layers": 1}
    samples = {"sample_width": 4, "sample_height": 4, "sample_frames": 9}
    levels = {"block_out_channels": FLAT, "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4}
    betas = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return d.CogVideoXPipeline(
        vae=d.AutoencoderKLCogVideoX(**levels),
        transformer=d.CogVideoXTransformer3DModel(**HEADS, **size, **samples, **joined),
        scheduler=d.CogVideoXDDIMScheduler(**BETAS | {"steps_offset": 0}, **betas, snr_shift_scale=3.0, clip_sample=False),
        **text(t5()),
    )


def ltx() -> d.DiffusionPipeline:
    size = {"in_channels": 8, "out_channels": 8, "num_layers": 1, "cross_attention_dim": 32, "caption_channels": WIDTH}
    levels = {f"{side}layers_per_block": (1,) * 5 for side in ("", "decoder_")}
    return d.LTXPipeline(
        vae=d.AutoencoderKLLTXVideo(latent_channels=8, block_out_channels=FLAT, decoder_block_out_channels=FLAT, **levels),
        transformer=d.LTXVideoTransformer3DModel(**HEADS, **size),
        scheduler=flow(1.0, dynamic=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1),
        **text(t5(max_length=128)),
    )


def hunyuan_video() -> d.DiffusionPipeline:
    size = {"in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1}
    widths = {"text_embed_dim": WIDTH, "pooled_projection_dim": WIDTH, "rope_axes_dim": ROTARY}
    levels = {"block_out_channels": FLAT, "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4}
    return d.HunyuanVideoPipeline(
        vae=d.AutoencoderKLHunyuanVideo(**levels),
        transformer=d.HunyuanVideoTransformer3DModel(**HEADS, **size, **widths),
        scheduler=flow(7.0),
        **text(llama(), clip()),
    )


def mochi() -> d.DiffusionPipeline:
    size = {"num_layers": 2, "pooled_projection_dim": 16, "text_embed_dim": WIDTH, "time_embed_dim": 16}
    levels = {f"{side}_block_out_channels": (32,) * 4 for side in ("encoder", "decoder")}
    return d.MochiPipeline(
        vae=d.AutoencoderKLMochi(layers_per_block=(1,) * 5, **levels),
        transformer=d.MochiTransformer3DModel(**HEADS, **size),
        scheduler=flow(1.0, invert_sigmas=True),
        force_zeros_for_empty_prompt=True,
        **text(t5(max_length=256)),
    )


def animatediff() -> d.DiffusionPipeline:
    size = {"block_out_channels": (8, 16), "motion_layers_per_block": 1, "motion_norm_num_groups": 4}
    return d.AnimateDiffPipeline(
        vae=vae(),
        unet=unet(),
        motion_adapter=d.MotionAdapter(**size, motion_num_attention_heads=2),
        scheduler=d.DDIMScheduler(**LINEAR, clip_sample=False, steps_offset=1),
        **text(clip()),
    )


# Sounds

AUDIO: dict[str, Any] = {"seconds": 0.32}
MEL_BINS = 16  # 64 in published checkpoints


def roberta() -> Any:
    vocabulary = _vocabulary("<s>", "<pad>", "</s>", "<unk>", *BYTES, "<mask>")
    return t.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clap(tokenizer: Any) -> t.ClapModel:
    heads = {"num_attention_heads": [1, 1], "depths": [1, 1], "num_hidden_layers": 2, "hidden_size": 16}
    patches = {"spec_size": 8, "window_size": 4, "num_mel_bins": 8, "patch_size": 2, "patch_stride": 2}
    audio = heads | patches | {"patch_embeds_hidden_size": 8, "projection_dim": WIDTH, "patch_embed_input_channels": 4}
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    words = {**SMALL, **ids, "vocab_size": len(tokenizer), "num_attention_heads": 2, "projection_dim": WIDTH}
    return t.ClapModel(t.ClapConfig(text_config=words, audio_config=audio, projection_dim=WIDTH))


def mel_vae() -> d.AutoencoderKL:
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return d.AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=8, block_out_channels=(8,) * 3, norm_num_groups=4, **levels
    )


def vocoder() -> t.SpeechT5HifiGan:
    rates = {"upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "upsample_initial_channel": 32}
    blocks = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "normalize_before": False}
    return t.SpeechT5HifiGan(t.SpeechT5HifiGanConfig(model_in_dim=MEL_BINS, sampling_rate=16000, **rates, **blocks))


def audioldm2() -> d.DiffusionPipeline:
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    size = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    tokenizer = roberta()
    encoder_2, tokenizer_2 = t5()
    language_model = t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=WIDTH, n_head=2, n_layer=1, vocab_size=16, n_positions=1024, bos_token_id=0, eos_token_id=1)
    )
    language_model.config.max_new_tokens = 8
    return d.AudioLDM2Pipeline(
        vae=mel_vae(),
        projection_model=AudioLDM2ProjectionModel(WIDTH, WIDTH, WIDTH),
        language_model=language_model,
        feature_extractor=t.ClapFeatureExtractor(),
        unet=AudioLDM2UNet2DConditionModel(
            **blocks, **size, sample_size=8, in_channels=8, out_channels=8, cross_attention_dim=(WIDTH, WIDTH)
        ),
        scheduler=d.DDIMScheduler(**BETAS, clip_sample=False),
        vocoder=vocoder(),
        **text((clap(tokenizer), tokenizer), (encoder_2, tokenizer_2)),
    )


def stable_audio() -> d.DiffusionPipeline:
    size = {"sample_size": 8, "in_channels": 8, "out_channels": 8, "num_layers": 1, "num_key_value_attention_heads": 1}
    widths = {"cross_attention_dim": 32, "cross_attention_input_dim": WIDTH, "global_states_input_dim": 2 * WIDTH}
    levels = {"encoder_hidden_size": 2, "decoder_channels": 2, "decoder_input_channels": 8}
    return d.StableAudioPipeline(
        vae=d.AutoencoderOobleck(**levels),
        projection_model=StableAudioProjectionModel(WIDTH, WIDTH, 0, 512),
        transformer=d.StableAudioDiTModel(**HEADS, **size, **widths, time_proj_dim=16),
        scheduler=d.CosineDPMSolverMultistepScheduler(
            prediction_type="v_prediction", sigma_data=1.0, sigma_min=0.3, sigma_max=500
        ),
        **text(t5(max_length=128)),
    )


VIDEO_FAMILIES: dict[str, Family] = {
    "Wan 2.1": Family(partial(wan, two_denoisers=False), 512, VIDEO),
    "Wan 2.2": Family(partial(wan, two_denoisers=True), 512, VIDEO, {"guidance_scale_2": 3.0}),
    "CogVideoX": Family(cogvideox, 226, VIDEO | {"frames": 9}),
    "LTX-Video": Family(ltx, 128, {"height": 64, "width": 64, "frames": 9, "fps": 24}),
    "HunyuanVideo": Family(hunyuan_video, 77, VIDEO),
    "Mochi": Family(mochi, 256, VIDEO | {"frames": 7}),
    "AnimateDiff": Family(animatediff, 77, VIDEO | {"frames": 3}),
}
AUDIO_FAMILIES: dict[str, Family] = {
    "AudioLDM 2": Family(audioldm2, 77, AUDIO),
    "Stable Audio": Family(stable_audio, 128, AUDIO),
}
