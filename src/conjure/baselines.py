"""Other measures of how far apart two texts are, behind one protocol: what conjuring has to be compared with.

The paper's initial, final, direct and one-sided KL need no baseline: every run gives them (`conjure.divergence`). Here are
measures that do not look at a process' way: texts as vectors, texts as what a language model would say next
(`conjure.trajectories`), texts as sets of finished pictures (`conjure.pictures`); and one that does, but saturates
(`conjure.likelihood`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from conjure.errors import InputError
from conjure.identity import digest, digest_of
from conjure.once import Call, Encoded
from conjure.process import Process
from conjure.quiet import hushed
from conjure.steady import replaced

BATCH = 32  # texts in one call of an encoder
KEPT = 50_000  # vectors of texts, since texts come again


class Baseline(Protocol):
    """Something that says how far apart texts are.

    name: for tables. settings: all that changes a number, as plain data.
    """

    name: str

    def settings(self) -> dict[str, Any]: ...

    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The distances of `pairs`, shape (pairs, samples), larger for less similar; one sample where nothing is drawn."""


# The command line's words for them
ALONE = ("encoder", "random", "jensen-shannon")
OF_MODELS = ("sentence", "cls", "mean", "trajectories")
OF_PICTURES = ("gaussian", "frechet", "mmd", "energy", "sliced-wasserstein")
ALLOWED = (*ALONE, *(f"{kind}:MODEL" for kind in OF_MODELS), *(f"{kind}[:MODEL]" for kind in OF_PICTURES))


def baselines(specs: Iterable[str], process: Process, *, samples: int = 1, seed: int = 0, pictures: int = 16) -> list[Baseline]:
    """The baselines that `specs` name, each one of `ALLOWED`.

    encoder: cosine of the process' own text encoder. random: agrees with nobody. jensen-shannon: between path measures.
    sentence, cls, mean: cosine of any sentence-transformers model, or of any transformers encoder by its first state or by the
    mean. trajectories: continuations of any causal language model. gaussian, frechet, mmd, energy, sliced-wasserstein: between
    `pictures` finished pictures a text, seen as colours or by a vision MODEL. MODEL: a folder, a Hub name with `@revision` if
    wanted, or `minilm` for the text encoder of the default model. samples, seed: of the process, for those that draw.

    Errors: `InputError` for an unknown name, and for a model that is not there.
    """
    from conjure.likelihood import JensenShannon
    from conjure.pictures import Drawings, Pictures, seen_by
    from conjure.trajectories import Trajectories

    device = str(process.pipeline.device)
    drawn: dict[str, Drawings] = {}  # by what sees the pictures: all metrics look at the same ones
    found: list[Baseline] = []
    for spec in dict.fromkeys(specs):
        kind, _, model = spec.partition(":")
        if spec == "encoder":
            found.append(encoder(process))
        elif spec == "random":
            found.append(Random(seed))
        elif spec == "jensen-shannon":
            found.append(JensenShannon(process, samples, seed))
        elif kind == "sentence" and model:
            found.append(sentence(model, device))
        elif kind in ("cls", "mean") and model:
            found.append(transformer(model, kind, device))
        elif kind == "trajectories" and model:
            found.append(Trajectories.load(model, device, seed=seed))
        elif kind in OF_PICTURES and (model or spec == kind):
            if model not in drawn:
                drawn[model] = Drawings(process, seen_by(model or None, device), pictures, seed)
            found.append(Pictures(kind, drawn[model]))
        else:
            raise InputError(f"unknown baseline {spec!r}; allowed are {', '.join(ALLOWED)}")
    return found


@dataclass
class Cosine:
    """One less the cosine of two texts' vectors. embed: vectors of texts, shape (texts, dimensions); asked once a text."""

    name: str
    about: dict[str, Any]
    embed: Callable[[list[str]], np.ndarray]
    known: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, **self.about}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        if len(self.known) > KEPT:
            self.known.clear()
        fresh = list({text: None for pair in pairs for text in pair if text not in self.known})
        for start in range(0, len(fresh), BATCH):
            part = fresh[start : start + BATCH]
            vectors = np.asarray(self.embed(part), dtype=np.float64)
            self.known.update(zip(part, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
        return np.array([[1 - self.known[a] @ self.known[b]] for a, b in pairs])


@dataclass
class Random:
    """Distances that know nothing of the texts, the same for the same pair and seed: what no agreement looks like."""

    seed: int = 0
    name: str = "random"

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        drawn = [hashlib.sha256(repr((self.seed, *sorted(pair))).encode()).digest()[:8] for pair in pairs]
        return np.array([[int.from_bytes(one, "big") / 2**64] for one in drawn])


def encoder(process: Process) -> Cosine:
    """The process' own text encoder, the paper's "paragon" (Table 2): what its pictures could know of a text at most.

    Texts go the way that the stock pipeline sends them, so templates and limits are its own. Of each of its encoders the
    projected or pooled vector is taken, or else the mean of the tokens' states; several are laid side by side at unit length.
    """

    heard = _Heard(process)
    return Cosine("encoder", {"weights": digest(process.pipeline), "call": process.call}, heard.vectors)


class _HeardError(Exception):
    """Nothing went wrong: the text encoders have spoken, and nothing needs to be denoised."""


class _Heard(Encoded):
    """What the text encoders of a process say of a text, while the stock pipeline asks them."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.parts = {name: part for name, part in process.pipeline.components.items() if isinstance(part, torch.nn.Module)}
        self.told: list[tuple[str, Any, np.ndarray]] = []  # encoder, what it was asked, vector
        if not any(name.startswith("text_encoder") for name in self.parts):
            raise InputError(f"{type(process.pipeline).__name__} has no text encoder to compare with; leave the baseline out")

    def vectors(self, texts: list[str]) -> np.ndarray:
        """(texts, dimensions)."""
        nothing = self._ask("")
        return np.stack([self._vector(text, nothing) for text in texts])

    def _vector(self, text: str, nothing: Sequence[tuple[str, Any, np.ndarray]]) -> np.ndarray:
        # pipelines encode the empty text as well; what is told of it is passed over, unless the tokenizer makes no difference
        empty = {key for _, key, _ in nothing}
        found: dict[str, np.ndarray] = {}
        for name, key, vector in self._ask(text):
            if key not in empty:
                found.setdefault(name, vector)
        found = {name: vector for name, _, vector in reversed(nothing)} | found
        return np.concatenate([found[name] / np.linalg.norm(found[name]) for name in sorted(found)])

    def _ask(self, text: str) -> list[tuple[str, Any, np.ndarray]]:
        self.told = []
        with contextlib.ExitStack() as stack, contextlib.suppress(_HeardError):
            for name in ("unet", "transformer", "prior", "decoder"):
                if name in self.parts:
                    stack.enter_context(replaced(self.parts[name], _stop))
            self.process.run([text], [0], encoded=self)
        return self.told

    @contextlib.contextmanager
    def texts_once(self, module: torch.nn.Module, name: str) -> Iterator[None]:
        with super().texts_once(module, name):
            forward = module.forward

            def listen(*args: Any, **kwargs: Any) -> Any:
                told, call = forward(*args, **kwargs), Call.of(args, kwargs)
                vectors = pooled(told, self._mask(name, args, kwargs)).float().cpu().numpy()
                self.told += [(name, call.key(row), vectors[row]) for row in range(call.rows)]
                return told

            with replaced(module, listen):
                yield

    def _mask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
        """Which tokens count: as the pipeline says, or else all but padding."""
        masks = (one for one in (kwargs.get("attention_mask"), *args[1:2]) if isinstance(one, torch.Tensor))
        if (mask := next(masks, None)) is not None:
            return mask
        ids = kwargs.get("input_ids", args[0] if args else None)
        words = getattr(self.process.pipeline, name.replace("text_encoder", "tokenizer"), None)
        padding = getattr(words, "pad_token_id", None)
        if not isinstance(ids, torch.Tensor) or padding is None:
            return None
        mask = (ids != padding).long()
        mask[:, 0] = 1  # of a text that is nothing but padding, one state
        return mask


def _stop(*_: Any, **__: Any) -> Any:
    raise _HeardError


def pooled(told: Any, mask: torch.Tensor | None) -> torch.Tensor:
    """A vector for each text, (texts, dimensions), of what a text encoder told of them."""
    for name in ("text_embeds", "pooler_output"):
        if isinstance(getattr(told, name, None), torch.Tensor):
            return getattr(told, name)
    states = told[0] if isinstance(told, tuple | list) or hasattr(told, "keys") else told
    counted = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
    counted = counted.to(states.dtype)[..., None]
    return (states * counted).sum(1) / counted.sum(1)


def sentence(model: str, device: str = "cpu") -> Cosine:
    """A model of sentence-transformers: SimCSE, Sentence-T5, CLIP's text encoder and their like."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError("sentence models need the package sentence-transformers: pip install 'conjure[bench]'") from error
    where, revision = located(model)
    with readable(model):
        own = SentenceTransformer(where, revision=revision, device=device, model_kwargs={"use_safetensors": True})
    told: list[Any] = [(type(part).__name__, getattr(part, "get_config_dict", dict)()) for part in own]
    used = [told, own.prompts, own.default_prompt_name, own.max_seq_length]
    words = {"tokenizer": own.tokenizer} if hasattr(own.tokenizer, "get_vocab") else {}
    about = {"model": model, "weights": digest_of(model=own, **words), "settings": used}
    return Cosine(f"sentence:{model}", about, lambda texts: own.encode(texts, show_progress_bar=False))


def transformer(model: str, pooling: str, device: str = "cpu") -> Cosine:
    """An encoder of transformers, its last states pooled: `cls`, the first, or `mean`, over the tokens (BERT and its like)."""
    from transformers import AutoModel, AutoTokenizer

    where, revision = located(model)
    with readable(model):
        words = AutoTokenizer.from_pretrained(where, revision=revision, **NO_CODE)
        own = AutoModel.from_pretrained(where, revision=revision, use_safetensors=True, **NO_CODE).to(device).eval()
    network = own.get_encoder() if getattr(own.config, "is_encoder_decoder", False) else own

    @torch.no_grad()
    def embed(texts: list[str]) -> np.ndarray:
        batch = words(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        states = network(**batch).last_hidden_state.float()
        vectors = states[:, 0] if pooling == "cls" else pooled((states,), batch.attention_mask)
        return vectors.cpu().numpy()

    return Cosine(f"{pooling}:{model}", {"model": model, "weights": digest_of(model=own, tokenizer=words)}, embed)


NO_CODE = {"trust_remote_code": False}  # if it is not said, transformers asks at a terminal


def located(model: str) -> tuple[str, str | None]:
    """Where a transformers model is: a folder or a Hub name, and its revision."""
    if model == "minilm":
        from conjure.default_model import encoder_folder

        return str(encoder_folder()), None
    name, _, revision = model.partition("@")
    return name, revision or None


@contextlib.contextmanager
def readable(model: str) -> Iterator[None]:
    """Whatever keeps a model of transformers from being loaded, as one line; what else its loading has to say is kept off."""
    try:
        with hushed():
            yield
    except Exception as error:  # transformers, safetensors and the Hub client each raise their own kinds
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"the model {model!r} cannot be loaded: {told}; give a folder with safetensors, or a Hub name"
        ) from error
