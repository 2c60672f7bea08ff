"""Tiny pipelines of every family of text-to-image models in diffusers, with random weights, in the format of the real ones.

Each pipeline has the classes of a checkpoint of its family, with small layers: tokenizers (over single characters), text
encoders, the denoiser, the autoencoder with the real compression, and the scheduler of the published checkpoints. Nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import diffusers as d
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WIDTH = 32  # of text encoders
SMALL = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2}  # encoders of transformers
SMALL_T5 = {"d_kv": 8, "d_ff": WIDTH, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}  # denoisers of diffusers
ROTARY = (4, 4, 8)

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
PRINTABLE = ["▁", *map(chr, range(33, 127))]
FALLBACK = [f"<0x{code:02X}>" for code in range(256)]

# Some pipelines put a template around a text and remove as many tokens as the template has in the real vocabulary. So each word
# of the template is one token here as well.
TEMPLATE = """
system Describe the image by detailing color shape size texture quantity text spatial relationships of objects and background
user assistant
""".split()  # noqa: SIM905, a list of words reads worse
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A family of pipelines.

    Attributes:
        parts: Returns the tiny pipeline as its classes initialise it.
        limit: Number of tokens after which a text is truncated, by the encoder with the smallest limit; None for no limit.
        settings: Keyword arguments of `conjure.load`.
        pipeline_kwargs: Further arguments of the call of the pipeline.
    """

    parts: Callable[[], d.DiffusionPipeline]
    limit: int | None
    settings: dict[str, Any] = field(default_factory=lambda: {"height": 64, "width": 64})
    pipeline_kwargs: dict[str, Any] = field(default_factory=dict)

    def build(self) -> d.DiffusionPipeline:
        """Return the pipeline. Its random weights are the same in every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pipeline = self.parts()
            for part in pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    _randomize(part.eval())
        return pipeline

    def save(self, folder: Path) -> Path:
        """Save the pipeline in the format of diffusers, and return the folder."""
        self.build().save_pretrained(folder)
        return folder


def save(name: str, folder: Path) -> Path:
    """Save the tiny pipeline of the family `name` in the format of diffusers, and return the folder."""
    return FAMILIES[name].save(folder)


def _randomize(module: torch.nn.Module) -> None:
    """Sample all weights again, except biases and the scales of normalisations, so that predictions depend on the text.

    Initial weights are small, those of gates and last layers are zero, and some parameters are not initialised at all.
    """
    for name, parameter in module.named_parameters():
        kind = name.rpartition(".")[2]
        if parameter.ndim > 0 and kind != "gamma" and (parameter.ndim > 1 or kind not in ("weight", "bias")):
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


# Text encoders, each with a tokenizer of the real class over single characters


def _vocabulary(*words: str) -> dict[str, int]:
    return {word: token_id for token_id, word in enumerate(words)}


def clip(cls: type = t.CLIPTextModel) -> tuple[Any, Any]:
    vocabulary = _vocabulary(*BYTES, *(character + "</w>" for character in BYTES), "<|startoftext|>", "<|endoftext|>")
    tokenizer = t.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    special_ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    return cls(
        t.CLIPTextConfig(vocab_size=len(vocabulary), num_attention_heads=4, projection_dim=WIDTH, **SMALL, **special_ids)
    ), tokenizer


def t5(width: int = WIDTH, max_length: int = 512) -> tuple[Any, Any]:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((character, -3.0) for character in PRINTABLE)]
    tokenizer = t.T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=max_length)
    return t.T5EncoderModel(t.T5Config(vocab_size=len(vocabulary), d_model=width, **SMALL_T5)), tokenizer


def umt5() -> tuple[Any, Any]:
    vocabulary = _vocabulary("<unk>", "<s>", "</s>", *FALLBACK, *PRINTABLE)
    tokenizer = t.LlamaTokenizerFast(vocab=vocabulary, merges=[], pad_token="</s>", add_eos_token=True)
    return t.UMT5EncoderModel(t.UMT5Config(vocab_size=len(vocabulary), d_model=WIDTH, **SMALL_T5)), tokenizer


def bert() -> tuple[Any, Any]:
    vocabulary = _vocabulary(
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PRINTABLE, *(f"##{character}" for character in PRINTABLE)
    )
    config = t.BertConfig(vocab_size=len(vocabulary), num_attention_heads=4, max_position_embeddings=77, **SMALL)
    return t.BertModel(config), t.BertTokenizer(vocab=vocabulary, model_max_length=77)


def _decoder(model: type, config: type, tokenizer: Any) -> tuple[Any, Any]:
    """Return a decoder-only language model as a text encoder, and its tokenizer."""
    special_ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    size = {"vocab_size": len(tokenizer), "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return model(config(**SMALL, **size, **special_ids)), tokenizer


def gemma(model: type = t.Gemma2Model, config: type = t.Gemma2Config) -> tuple[Any, Any]:
    vocabulary = _vocabulary("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *FALLBACK, *PRINTABLE)
    return _decoder(model, config, t.GemmaTokenizerFast(vocab=vocabulary, merges=[], add_bos_token=True))


def glm() -> tuple[Any, Any]:
    specials = _vocabulary("<|endoftext|>", "[gMASK]", "<sop>")
    inner = Tokenizer(models.BPE(vocab=_vocabulary(*specials, *BYTES), merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=list(specials.items()))
    inner.add_special_tokens(list(specials))
    special_tokens = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "padding_side": "left"}
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=128000, **special_tokens)
    return _decoder(t.GlmModel, t.GlmConfig, tokenizer)


def _qwen_tokenizer() -> Any:
    tokenizer = t.Qwen2TokenizerFast(vocab=_vocabulary(*BYTES, "<|endoftext|>"), merges=[], model_max_length=131072)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens([form for word in TEMPLATE for form in (f" {word}", word)])
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(model: type = t.Qwen3Model) -> tuple[Any, Any]:
    return _decoder(model, t.Qwen3Config, _qwen_tokenizer())


def qwen_vl() -> tuple[Any, Any]:
    tokenizer = _qwen_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rope}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    return t.Qwen2_5_VLForConditionalGeneration(
        t.Qwen2_5_VLConfig(text_config=SMALL | heads | tokens, vision_config=vision)
    ), tokenizer


def text(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    """Return encoders and tokenizers by their names in a pipeline: `text_encoder`, `text_encoder_2` and so on."""
    suffixes = ["", *(f"_{number}" for number in range(2, len(pairs) + 1))]
    encoders = {f"text_encoder{suffix}": encoder for suffix, (encoder, _) in zip(suffixes, pairs, strict=True)}
    return encoders | {f"tokenizer{suffix}": tokenizer for suffix, (_, tokenizer) in zip(suffixes, pairs, strict=True)}


# Components that several families share: autoencoders, schedulers, the UNet

LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
EIGHTFOLD = LEVELS | {"block_out_channels": (8,) * 4, "norm_num_groups": 4}  # 8x8 pixels per latent position
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
NO_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def vae(channels: int = 4, **more: Any) -> d.AutoencoderKL:
    return d.AutoencoderKL(latent_channels=channels, **EIGHTFOLD, **more)


def flow_vae() -> d.AutoencoderKL:
    return vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def flow(shift: float = 1.0, dynamic: bool = False, **more: Any) -> d.FlowMatchEulerDiscreteScheduler:
    return d.FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=dynamic, **more)


def unet(**more: Any) -> d.UNet2DConditionModel:
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    size = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    return d.UNet2DConditionModel(**blocks | size | {"sample_size": 8, "cross_attention_dim": WIDTH} | more)


# The families


def stable_diffusion(cls: type, scheduler: Callable[..., Any], betas: dict[str, Any], **more: Any) -> d.DiffusionPipeline:
    return cls(vae=vae(), unet=unet(**more), scheduler=scheduler(**BETAS | betas), **text(clip()), **NO_SAFETY_CHECKER)


def sdxl(cls: type = d.StableDiffusionXLPipeline) -> d.DiffusionPipeline:
    sizes = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + WIDTH}
    return cls(
        vae=vae(scaling_factor=0.13025),
        unet=unet(cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", use_linear_projection=True, **sizes),
        scheduler=d.EulerDiscreteScheduler(**BETAS),
        **text(clip(), clip(t.CLIPTextModelWithProjection)),
    )


def sd3(with_t5: bool, **more: Any) -> d.DiffusionPipeline:
    widths = {"joint_attention_dim": 2 * WIDTH, "pooled_projection_dim": 2 * WIDTH, "caption_projection_dim": 32}
    clips = [clip(t.CLIPTextModelWithProjection) for _ in range(2)]
    return d.StableDiffusion3Pipeline(
        vae=flow_vae(),
        transformer=d.SD3Transformer2DModel(sample_size=8, num_layers=2, pos_embed_max_size=8, **HEADS, **widths, **more),
        scheduler=flow(3.0),
        **text(*clips, t5(2 * WIDTH) if with_t5 else (None, None)),
    )


def flux(dev: bool) -> d.DiffusionPipeline:
    widths = {"joint_attention_dim": WIDTH, "pooled_projection_dim": WIDTH, "axes_dims_rope": ROTARY}
    return d.FluxPipeline(
        vae=flow_vae(),
        transformer=d.FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=dev, **HEADS, **widths),
        scheduler=flow(3.0, dynamic=True) if dev else flow(),
        **text(clip(), t5()),
    )


def pixart(cls: type, **more: Any) -> d.DiffusionPipeline:
    size = {"sample_size": 8, "num_layers": 2, "norm_num_groups": 4, "cross_attention_dim": 32, "caption_channels": WIDTH}
    return cls(
        vae=vae(**more),
        transformer=d.PixArtTransformer2DModel(**HEADS, **size),
        scheduler=d.DPMSolverMultistepScheduler(**LINEAR),
        **text(t5()),
    )


def sana() -> d.DiffusionPipeline:
    levels: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        levels[f"{side}_block_types"] = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
        levels |= {f"{side}_block_out_channels": (8,) * 6, f"{side}_layers_per_block": (1,) * 6}
    kinds = {"downsample_block_type": "conv", "upsample_block_type": "interpolate", "scaling_factor": 0.41407}
    size = {"in_channels": 8, "out_channels": 8, "num_layers": 2, "sample_size": 4, "caption_channels": WIDTH}
    crossed = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32}
    flows = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return d.SanaPipeline(
        vae=d.AutoencoderDC(latent_channels=8, attention_head_dim=8, **kinds, **levels),
        transformer=d.SanaTransformer2DModel(**HEADS, **size, **crossed),
        scheduler=d.DPMSolverMultistepScheduler(**LINEAR, **flows),
        **text(gemma()),
    )


def lumina(version: int) -> d.DiffusionPipeline:
    size = {"sample_size": 8, "hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 16}
    if version == 1:
        net = d.LuminaNextDiT2DModel(cross_attention_dim=WIDTH, **size)
        return d.LuminaPipeline(
            vae=vae(scaling_factor=0.13025), transformer=net, scheduler=flow(), **text(gemma(t.GemmaModel, t.GemmaConfig))
        )
    net = d.Lumina2Transformer2DModel(num_refiner_layers=1, axes_dim_rope=ROTARY, cap_feat_dim=WIDTH, **size)
    return d.Lumina2Pipeline(vae=flow_vae(), transformer=net, scheduler=flow(6.0), **text(gemma()))


def qwen_image() -> d.DiffusionPipeline:
    return d.QwenImagePipeline(
        vae=d.AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1),
        transformer=d.QwenImageTransformer2DModel(num_layers=2, joint_attention_dim=WIDTH, axes_dims_rope=ROTARY, **HEADS),
        scheduler=flow(dynamic=True, max_image_seq_len=8192, max_shift=0.9, shift_terminal=0.02),
        **text(qwen_vl()),
    )


def z_image() -> d.DiffusionPipeline:
    size = {"dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    net = d.ZImageTransformer2DModel(cap_feat_dim=WIDTH, axes_dims=list(ROTARY), **size)
    return d.ZImagePipeline(vae=flow_vae(), transformer=net, scheduler=flow(6.0), **text(qwen3()))


def aura_flow() -> d.DiffusionPipeline:
    widths = {"sample_size": 8, "pos_embed_max_size": 16, "joint_attention_dim": WIDTH, "caption_projection_dim": 32}
    net = d.AuraFlowTransformer2DModel(num_mmdit_layers=1, num_single_dit_layers=1, **HEADS, **widths)
    return d.AuraFlowPipeline(vae=vae(scaling_factor=0.13025), transformer=net, scheduler=flow(1.73), **text(umt5()))


def chroma() -> d.DiffusionPipeline:
    size = {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": WIDTH, "axes_dims_rope": ROTARY}
    approximator = {"approximator_num_channels": 16, "approximator_hidden_dim": 32, "approximator_layers": 1}
    net = d.ChromaTransformer2DModel(**HEADS, **size, **approximator)
    return d.ChromaPipeline(vae=flow_vae(), transformer=net, scheduler=flow(3.0, dynamic=True), **text(t5()))


def cogview(version: int) -> d.DiffusionPipeline:
    size = {"num_layers": 2, "text_embed_dim": WIDTH, "time_embed_dim": 16, "condition_dim": 8, "sample_size": 8}
    if version == 3:
        net = d.CogView3PlusTransformer2DModel(pos_embed_max_size=8, **HEADS, **size)
        scheduler = d.CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
        )
        return d.CogView3PlusPipeline(vae=vae(16), transformer=net, scheduler=scheduler, **text(t5()))
    scheduler = flow(dynamic=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    net = d.CogView4Transformer2DModel(**HEADS, **size)
    return d.CogView4Pipeline(vae=vae(16), transformer=net, scheduler=scheduler, **text(glm()))


def hunyuan_dit() -> d.DiffusionPipeline:
    widths = {"cross_attention_dim": WIDTH, "cross_attention_dim_t5": WIDTH, "pooled_projection_dim": WIDTH, "hidden_size": 32}
    return d.HunyuanDiTPipeline(
        vae=vae(scaling_factor=0.13025),
        transformer=d.HunyuanDiT2DModel(in_channels=4, patch_size=2, sample_size=8, num_layers=2, **HEADS, **widths),
        scheduler=d.DDPMScheduler(prediction_type="v_prediction", clip_sample=False, **BETAS | {"beta_end": 0.018}),
        **text(bert(), t5()),
        **NO_SAFETY_CHECKER,
    )


def deepfloyd_if() -> d.DiffusionPipeline:
    """Stage I: a pixel-space model with a learned variance."""
    blocks = {
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    }
    text_layers = {"encoder_hid_dim": WIDTH, "addition_embed_type": "text", "addition_embed_type_num_heads": 2}
    kinds = {"act_fn": "gelu", "resnet_time_scale_shift": "scale_shift", "cross_attention_norm": "group_norm"}
    bounds = {"thresholding": True, "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5}
    return d.IFPipeline(
        unet=unet(in_channels=3, out_channels=6, sample_size=16, **blocks, **text_layers, **kinds),
        scheduler=d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", **bounds),
        watermarker=None,
        **text(t5()),
        **NO_SAFETY_CHECKER,
    )


def kandinsky3() -> d.DiffusionPipeline:
    size = {"groups": 2, "attention_head_dim": 4, "block_out_channels": (8, 16), "time_embedding_dim": 8}
    return d.Kandinsky3Pipeline(
        unet=d.Kandinsky3UNet(cross_attention_dim=16, encoder_hid_dim=WIDTH, **size),
        scheduler=d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", steps_offset=1),
        movq=d.VQModel(latent_channels=4, vq_embed_dim=4, norm_type="spatial", block_out_channels=(32,) * 4, **LEVELS),
        **text(t5()),
    )


def bria() -> d.DiffusionPipeline:
    size = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": WIDTH, "axes_dims_rope": (0, 8, 8)}
    net = d.BriaTransformer2DModel(**HEADS, **size)
    return d.BriaPipeline(vae=vae(scaling_factor=0.13025), transformer=net, scheduler=flow(3.0, dynamic=True), **text(t5()))


def flux2_klein() -> d.DiffusionPipeline:
    size = {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 3 * WIDTH, "axes_dims_rope": (4, 4, 4, 4)}
    return d.Flux2KleinPipeline(
        vae=d.AutoencoderKLFlux2(**EIGHTFOLD),
        transformer=d.Flux2Transformer2DModel(guidance_embeds=False, **HEADS, **size),
        scheduler=flow(3.0, dynamic=True),
        **text(qwen3(t.Qwen3ForCausalLM)),
    )


_SD = partial(stable_diffusion, d.StableDiffusionPipeline)
_V = {"prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False}
_MORE_PIXELS = {"height": 128, "width": 128}  # the autoencoder maps 32x32 pixels to one latent position

FAMILIES: dict[str, Family] = {
    "Stable Diffusion 1.x": Family(partial(_SD, d.PNDMScheduler, {"skip_prk_steps": True}), 77),
    "Stable Diffusion 2.x": Family(partial(_SD, d.DDIMScheduler, _V, use_linear_projection=True), 77),
    "SDXL": Family(sdxl, 77),
    "Stable Diffusion 3": Family(partial(sd3, with_t5=True), 77),
    "Stable Diffusion 3.5": Family(partial(sd3, with_t5=False, qk_norm="rms_norm", dual_attention_layers=(0,)), 77),
    "Flux schnell": Family(partial(flux, dev=False), 77),
    "Flux dev": Family(partial(flux, dev=True), 77),
    "Flux true CFG": Family(partial(flux, dev=True), 77, pipeline_kwargs={"true_cfg_scale": 3.0}),
    "PixArt-Sigma": Family(partial(pixart, d.PixArtSigmaPipeline, scaling_factor=0.13025), 300),
    "Sana": Family(sana, 300, _MORE_PIXELS),
    "Lumina2": Family(partial(lumina, 2), 256),
    "Qwen-Image": Family(qwen_image, 512),
    "Z-Image": Family(z_image, 512),
    "AuraFlow": Family(aura_flow, 256),
    "Chroma": Family(chroma, 512),
    "CogView4": Family(partial(cogview, 4), 1024),
    "HunyuanDiT": Family(hunyuan_dit, 77),
    "DeepFloyd IF": Family(deepfloyd_if, 77, {"height": 16, "width": 16}),
    "LCM": Family(
        partial(stable_diffusion, d.LatentConsistencyModelPipeline, d.LCMScheduler, {"steps_offset": 0}, time_cond_proj_dim=16),
        77,
    ),
    "PixArt-Alpha": Family(partial(pixart, d.PixArtAlphaPipeline), 120),
    "Lumina-Next": Family(partial(lumina, 1), 256),
    "CogView3-Plus": Family(partial(cogview, 3), 224),
    "Kandinsky 3": Family(kandinsky3, 128),
    "Bria": Family(bria, 128),
    "Stable Diffusion PAG": Family(
        partial(stable_diffusion, d.StableDiffusionPAGPipeline, d.PNDMScheduler, {"skip_prk_steps": True}), 77
    ),
    "SDXL PAG": Family(partial(sdxl, d.StableDiffusionXLPAGPipeline), 77),
    "Flux 2 Klein": Family(flux2_klein, 512, pipeline_kwargs={"text_encoder_out_layers": [0, 1, 2]}),
}
