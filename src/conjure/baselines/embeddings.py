"""Cosine distances of text embeddings: the process's text encoder, sentence-transformers models and transformers encoders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Shaped

from conjure.baselines.base import Cosine
from conjure.baselines.huggingface import NO_REMOTE_CODE, open_model, pool, weights_options
from conjure.diffusion.batched_call import BatchedCall
from conjure.diffusion.complete_weights import POOLER
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.fingerprint import module_fingerprint, pipeline_fingerprint
from conjure.diffusion.patching import patched_forward, patched_method
from conjure.diffusion.pipeline_patching import PROJECTION, is_text_encoder
from conjure.diffusion.process import Process
from conjure.diffusion.tokenizers import check_vocabulary
from conjure.errors import InputError

DENOISERS = ("unet", "transformer", "prior", "decoder")


def process_text_encoder(process: Process) -> Cosine:
    """Return the cosine distance of the text encoders of a process, the "paragon" of Liu and Soatto (2026), Table 2.

    The denoiser receives nothing of a text except what its encoders return, so this is what the images can depend on at most.
    The stock pipeline passes the texts to its encoders, so its templates and limits of length apply. The vector of an encoder is
    its projected or pooled output, or else the mean of its hidden states. The vectors of several encoders are normalised to unit
    length and concatenated.

    Args:
        process: Process with at least one text encoder.

    Raises:
        InputError: If the pipeline has no text encoder.
    """
    recorder = TextEncoderRecorder(process)
    return ProcessEncoderDistance("encoder", {}, recorder.vectors, recorder=recorder)


@dataclass
class ProcessEncoderDistance(Cosine):
    """Cosine distance of the text encoders of a process.

    Attributes:
        recorder: The text encoders, and their outputs by text.
        cached_fingerprint: Fingerprint of the pipeline that the outputs and vectors belong to.
    """

    recorder: TextEncoderRecorder = field(kw_only=True)
    cached_fingerprint: str = field(default="", init=False, repr=False)

    def settings(self) -> dict[str, Any]:
        """Return the pipeline, by its present fingerprint, and its arguments; see `Baseline.settings`."""
        process = self.recorder.process
        # hashed into store keys: keys and values must not change
        weights = pipeline_fingerprint(process.pipeline, storable=True)
        settings = {"name": self.name, "weights": weights, "call": process.pipeline_kwargs}
        # Stored values of earlier versions are not used where these took a text that is the negative prompt for the empty text,
        # or pooled logits of language models or the output of a projection
        if process.pipeline_kwargs.get("negative_prompt"):
            return settings | {"version": 3}
        has_logits = any(hasattr(module, "lm_head") for name, module in self.recorder.modules.items() if is_text_encoder(name))
        return settings | {"version": 2} if has_logits or PROJECTION in self.recorder.modules else settings

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs 1"]:
        """Return the cosine distances of `pairs`, shape (pairs, 1)."""
        if (fingerprint := pipeline_fingerprint(self.recorder.process.pipeline)) != self.cached_fingerprint:
            self.cache.clear()
            self.recorder.clear()
            self.cached_fingerprint = fingerprint
        return super().distances(pairs)


class StopBeforeDenoising(Exception):  # noqa: N818 (control flow, not an error)
    """Raised in place of the first call of a denoiser: the text encoders have run, and nothing needs to be denoised."""


@dataclass(frozen=True)
class EncodedText:
    """The pooled output of one text encoder for one row of its input.

    Attributes:
        encoder: Name of the encoder in the pipeline.
        row_key: All inputs of the encoder that the output depends on.
        vector: Pooled output, shape (dimensions,).
    """

    encoder: str
    row_key: Any
    vector: Float[np.ndarray, " dimensions"]


class TextEncoderRecorder(TextEmbeddingCache):
    """Records the outputs of the text encoders of a process while the stock pipeline calls them.

    Args:
        process: Process with at least one text encoder.

    Raises:
        InputError: If the pipeline has no text encoder.
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.modules = {
            name: module for name, module in process.pipeline.components.items() if isinstance(module, torch.nn.Module)
        }
        self.recorded: list[EncodedText] = []
        if not any(map(is_text_encoder, self.modules)):
            raise InputError(f"{type(process.pipeline).__name__} has no text encoder to compare with; leave the baseline out")

    def vectors(self, texts: list[str]) -> Float[np.ndarray, "texts dimensions"]:
        """Return one vector per text, shape (texts, dimensions)."""
        with self._patched_pipeline() as pipeline:
            # Pipelines also encode the negative prompt, for guidance. It is what runs of different texts have in common
            of_empty_text, of_other_text = ({encoded.row_key for encoded in self._record(pipeline, text)} for text in ("", "a"))
            return np.stack([self._vector(pipeline, text, of_empty_text & of_other_text) for text in texts])

    def _vector(self, pipeline: Any, text: str, negative_keys: AbstractSet[Any]) -> np.ndarray:
        recorded = self._record(pipeline, text)
        # A text may have the tokens of the negative prompt, which is the empty text by default
        ordered = sorted(recorded, key=lambda encoded: encoded.row_key in negative_keys)
        vectors = {encoded.encoder: encoded.vector for encoded in reversed(ordered)}  # the first of each encoder
        return np.concatenate([vectors[name] / np.linalg.norm(vectors[name]) for name in sorted(vectors)])

    @contextlib.contextmanager
    def _patched_pipeline(self) -> Iterator[Any]:
        """Context manager with the pipeline, whose calls end at the first call of a denoiser.

        All texts share it, because patching takes longer than encoding a text.
        """
        with contextlib.ExitStack() as stack:
            for name in DENOISERS:
                if name in self.modules:
                    stack.enter_context(patched_forward(self.modules[name], _stop))
            yield stack.enter_context(self.process.patched_pipeline(self, single_row=True))

    def _record(self, pipeline: Any, text: str) -> list[EncodedText]:
        """Run the patched pipeline on `text` up to its first call of a denoiser."""
        self.recorded = []
        with contextlib.suppress(StopBeforeDenoising):
            pipeline(**self.process.call_kwargs([text], [0], "latent"))
        return self.recorded

    @contextlib.contextmanager
    def cached_encoder(self, module: torch.nn.Module, name: str) -> Iterator[None]:
        """Context manager that caches the outputs of the encoder `module`, and records what it returns."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(super().cached_encoder(module, name))
            if is_text_encoder(name):  # a projection only transforms what the encoders return
                stack.enter_context(patched_forward(module, self._recording(module.forward, name)))
                if hasattr(module, "get_text_features"):  # CLAP is called by this method
                    recording = self._recording(module.get_text_features, name)
                    stack.enter_context(patched_method(module, "get_text_features", recording))
            yield

    def _recording(self, encode: Any, name: str) -> Callable[..., Any]:
        """Return a function that calls `encode`, a method of the encoder `name`, and records what it returns."""

        def recording(*args: Any, **kwargs: Any) -> Any:
            output, call = encode(*args, **kwargs), BatchedCall.from_call(args, kwargs)
            vectors = pool(output, self._mask(name, args, kwargs)).float().cpu().numpy()
            self.recorded += [EncodedText(name, call.row_key(row), vectors[row]) for row in range(call.num_rows)]
            return output

        return recording

    def _mask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shaped[torch.Tensor, "rows tokens"] | None:
        """Return which tokens the mean includes: the attention mask of the pipeline, or else all tokens except padding."""
        masks = (mask for mask in (kwargs.get("attention_mask"), *args[1:2]) if isinstance(mask, torch.Tensor))
        if (mask := next(masks, None)) is not None:
            return mask
        token_ids = kwargs.get("input_ids", args[0] if args else None)
        tokenizer = getattr(self.process.pipeline, name.replace("text_encoder", "tokenizer"), None)
        padding = getattr(tokenizer, "pad_token_id", None)
        if not isinstance(token_ids, torch.Tensor) or padding is None:
            return None
        mask = (token_ids != padding).long()
        mask[:, 0] = 1  # a text of padding alone keeps one hidden state
        return mask


def _stop(*_: Any, **__: Any) -> NoReturn:
    raise StopBeforeDenoising


def sentence_transformer(model: str, device: str = "cpu") -> Cosine:
    """Return the cosine distance of a sentence-transformers model, such as SimCSE, Sentence-T5 or the text encoder of CLIP.

    Args:
        model: A folder, a Hub name with an optional `@revision`, or `minilm`.
        device: Device of the model.

    Raises:
        InputError: If sentence-transformers is not installed, or the model cannot be loaded.

    Reference:
        Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError("sentence models need the package sentence-transformers: pip install '.[bench]' in a clone") from error
    with open_model(model, unused=POOLER) as folder:
        options: dict[str, Any] = {"device": device, "local_files_only": True, **NO_REMOTE_CODE}
        network = SentenceTransformer(str(folder), model_kwargs=weights_options(folder, model), **options)
        check_vocabulary(network.tokenizer, model)
    module_configs: list[Any] = [(type(module).__name__, getattr(module, "get_config_dict", dict)()) for module in network]
    encode_settings = [module_configs, network.prompts, network.default_prompt_name, network.max_seq_length]
    tokenizers = {"tokenizer": network.tokenizer} if hasattr(network.tokenizer, "get_vocab") else {}
    # hashed into store keys: keys and values must not change
    metadata = {"model": model, "weights": module_fingerprint(model=network, **tokenizers), "settings": encode_settings}
    return Cosine(f"sentence:{model}", metadata, lambda texts: network.encode(texts, show_progress_bar=False))


def transformers_encoder(model: str, pooling: Literal["cls", "mean"], device: str = "cpu") -> Cosine:
    """Return the cosine distance of a text encoder of transformers, such as BERT, RoBERTa or the encoder of T5.

    Args:
        model: A folder, a Hub name with an optional `@revision`, or `minilm`.
        pooling: `cls` for the last hidden state of the first token, `mean` for the mean over all tokens.
        device: Device of the model.

    Raises:
        InputError: If the model cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    with open_model(model, unused=POOLER) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_REMOTE_CODE)
        check_vocabulary(tokenizer, model)
        network = AutoModel.from_pretrained(folder, **weights_options(folder, model), **NO_REMOTE_CODE).to(device).eval()
    encoder = network.get_encoder() if getattr(network.config, "is_encoder_decoder", False) else network

    @torch.no_grad()
    def embed(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        states = encoder(**batch).last_hidden_state.float()
        vectors = states[:, 0] if pooling == "cls" else pool((states,), batch.attention_mask)
        return vectors.cpu().numpy()

    # hashed into store keys: keys and values must not change
    metadata = {"model": model, "weights": module_fingerprint(model=network, tokenizer=tokenizer)}
    return Cosine(f"{pooling}:{model}", metadata, embed)
