"""A process: a text-to-image pipeline together with every setting that decides what it makes of a text.

"Meanings arise from processes, not models": weights, sampler, steps, guidance and size together give a text its meaning, so all
of them belong to one object, which knows how to run the stock pipeline, how to describe itself and what its identity is.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch.overrides import TorchFunctionMode

from conjure.errors import InputError, TextCutWarning
from conjure.identity import digest
from conjure.once import Encoded, rows_once
from conjure.quiet import no_word_of_cuts
from conjure.units import UNITS

if TYPE_CHECKING:
    from conjure.store import Store
    from conjure.workers import Workers

# Few-step students work with their own sampler alone, although diffusers calls the others compatible.
DISTILLED = ("LCMScheduler", "TCDScheduler", "SCMScheduler")

AUTOENCODERS = ("vae", "movq", "vqvae")

# Pipelines whose answer for a text depends on the others of its batch, so that it must have none: they pad to the longest text
# and let the padding count, or (Hunyuan-Image) guide all alike where one text has quotes. `conjure check` finds the former.
COMPANY_COUNTS = ("CogView4Pipeline", "Kandinsky3Pipeline", "HunyuanImagePipeline")

# What a stock pipeline may do to a text or a size behind the caller's back; the texts to compare are to be taken as they are.
AS_GIVEN = {"clean_caption": False, "use_resolution_binning": False}


def short(name: str) -> str:
    """The name by which a scheduler can be asked for: `LMSDiscreteScheduler` is `lms`."""
    return name.lower().replace("scheduler", "").replace("discrete", "").replace("-", "").replace("_", "")


def scheduler_for(own: Any, name: str | None) -> Any:
    """The scheduler called `name`, made from the configuration of the pipeline's `own`.

    None asks for the paper's choice: LMS over evenly spaced timesteps where the model is a noise model, else `own`. The name
    `own` keeps the pipeline's. Others are the class names of diffusers, whole or short (`lms`, `ddim`, `euler`, ...).

    Errors: `InputError` for a name that does not exist or does not go with the model.
    """
    if not isinstance(name, str | None):
        raise InputError(f"the scheduler is {name!r}; allowed are names, such as lms or own")
    classes, asked = {short(cls.__name__): cls for cls in [*own.compatibles, type(own)]}, name
    learned = own.config.get("variance_type") in ("learned", "learned_range")  # for the sampler that it was learned with
    if name is None:
        flows = own.config.get("prediction_type") == "flow_prediction"
        noise_model = "lms" in classes and type(own).__name__ not in DISTILLED and not flows and not learned
        name = "lms" if noise_model else "own"
    if short(name) == "own":
        return type(own).from_config(own.config)
    if short(name) not in classes:
        raise InputError(f"unknown scheduler {name!r} for this model; allowed are own, {', '.join(sorted(classes))}")
    # diffusers' default "leading" starts below the highest level of noise, and would silently shift every timestep
    spaced = "timestep_spacing" in inspect.signature(classes[short(name)].__init__).parameters
    fixed = {"variance_type": "fixed_small"} if learned and classes[short(name)] is not type(own) else {}
    config = dict(own.config) | fixed
    try:
        made = classes[short(name)].from_config(config, **({"timestep_spacing": "linspace"} if spaced else {}))
    except (ImportError, ValueError, NotImplementedError) as error:
        raise InputError(f"the scheduler {name!r} cannot be used here: {' '.join(str(error).split())}") from error
    if same_noise(made, own):
        return made
    if asked is None:
        return type(own).from_config(own.config)
    raise InputError(
        f"the scheduler {name!r} does not know the noise schedule that this model was trained with (such as zero terminal SNR); "
        "use own"
    )


def same_noise(one: Any, other: Any) -> bool:
    """Whether two schedulers have the same level of noise at every training timestep, as far as they tell."""
    here, there = (getattr(scheduler, "alphas_cumprod", None) for scheduler in (one, other))
    if here is None or there is None:
        return True
    return len(here) == len(there) and bool((here.cpu() - there.cpu()).abs().max() < 1e-4)  # some keep the last above zero


@dataclass(frozen=True)
class Process:
    """A pipeline with its settings. Make one with `conjure.load`; vary it with `process.set(steps=20)`.

    pipeline: any text-to-image pipeline of diffusers that steps through `pipeline.scheduler`.
    scheduler: the scheduler to run it with (not shared with the pipeline).
    steps: denoising steps T. guidance: classifier-free guidance scale, None where the pipeline has none.
    height, width: pixels, None for the pipeline's own.
    unit: in what the uniform weighting measures differences, one of `units.UNITS`.
    call: further arguments for the pipeline's call.
    model, revision: where it came from, for the record.
    alone: no text shares a batch with another, for pipelines whose answers depend on the company; None for `COMPANY_COUNTS`.
    rows: how many rows the denoiser evaluates in one call, None for as many as fit. It changes speed and memory alone.
    store: where results are kept and looked up, so that nothing is computed twice, in this run or another.
    workers: who computes, None for this process itself. It changes no number.
    """

    pipeline: DiffusionPipeline
    scheduler: Any
    steps: int = 10
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    unit: str = "output"
    call: dict[str, Any] = field(default_factory=dict)
    model: str = "pipeline"
    revision: str | None = None
    alone: bool | None = None
    rows: int | None = None
    store: Store | None = field(default=None, repr=False, compare=False)
    workers: Workers | None = field(default=None, repr=False, compare=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        trained = self.scheduler.config.get("num_train_timesteps", 1000)
        if not isinstance(self.steps, Integral) or not 1 <= self.steps <= trained:
            raise InputError(f"steps is {self.steps!r}; allowed are whole numbers from 1 to {trained}")
        if self.guidance is not None and not (
            isinstance(self.guidance, Real) and np.isfinite(self.guidance) and self.guidance >= 0
        ):
            raise InputError(f"guidance is {self.guidance!r}; allowed are finite numbers from 0 on (1 is no guidance)")
        if self.rows is not None and not (isinstance(self.rows, Integral) and self.rows >= 1):
            raise InputError(f"rows is {self.rows!r}; allowed are whole numbers from 1 on")
        if self.unit not in UNITS:
            raise InputError(f"unknown unit {self.unit!r}; allowed are {', '.join(UNITS)}")
        if (self.height is None) != (self.width is None):  # some pipelines would ignore the one
            raise InputError(f"height is {self.height!r} and width is {self.width!r}; give both or neither")
        if self.alone is None:
            names = {cls.__name__ for cls in type(self.pipeline).__mro__}
            object.__setattr__(self, "alone", not names.isdisjoint(COMPANY_COUNTS))
        for part, module in self.pipeline.components.items():
            if isinstance(module, torch.nn.Module) and module.training:
                raise InputError(f"the part {part!r} is in training mode, where answers vary from call to call; call its eval()")
        for name, pixels in (("height", self.height), ("width", self.width)):
            if pixels is not None and not (isinstance(pixels, Integral) and pixels >= 1):
                raise InputError(f"{name} is {pixels!r}; allowed are whole numbers of pixels from 1 on")

    def set(self, *, scheduler: str | None = None, **settings: Any) -> Process:
        """A process over the same weights with other `settings` (fields of this class; `scheduler` by name).

        Errors: `InputError` for an unknown setting or a value out of range.
        """
        allowed = ("steps", "guidance", "height", "width", "unit", "call", "alone", "rows", "store", "workers")
        for name in settings:
            if name not in allowed:
                raise InputError(f"unknown setting {name!r}; allowed are scheduler, {', '.join(allowed)}")
        for name, kind in (("store", "Store"), ("workers", "Workers")):
            value = settings.get(name)
            if isinstance(value, (str, PathLike, Integral)):
                raise InputError(f"{name} is {value!r}; give conjure.{kind}({value!r})")
        if settings.get("guidance") is not None and "guidance_scale" not in self.parameters:
            raise InputError(f"{type(self.pipeline).__name__} takes no guidance; leave it out")
        scale = self.parameters.get("guidance_scale")
        if "guidance" in settings and settings["guidance"] is None and scale is not None and scale.default is not None:
            raise InputError("guidance is None; allowed are finite numbers from 0 on (1 is no guidance)")
        if scheduler is not None:
            settings["scheduler"] = scheduler_for(self.pipeline.scheduler, scheduler)
        return replace(self, **settings)

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the pipeline's call."""
        return dict(inspect.signature(self.pipeline).parameters)

    def run(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        output_type: str = "latent",
        encoded: Encoded | None = None,
        **call: Any,
    ) -> Any:
        """Run the stock pipeline on rows `texts`, row i from the noise of `seeds[i]`, and return its pictures.

        A row's noise depends on its seed alone: each has a generator of its own, on the CPU whatever the device. A negative seed
        gives the opposite of all noise that its absolute value gives.
        encoded: texts that were encoded before, for callers that run many batches.

        Warns: `TextCutWarning` for a text whose end the text encoder does not take.
        """
        arguments = self.arguments(texts, seeds, output_type) | call
        with self._session(encoded or Encoded()), opposite(arguments["generator"], seeds):
            return self.pipeline(**arguments).images

    def arguments(self, texts: Sequence[str], seeds: Sequence[int], output_type: str) -> dict[str, Any]:
        """With what the stock pipeline is called to run rows `texts` from the noise of `seeds`."""
        arguments: dict[str, Any] = {
            "prompt": list(texts),
            "num_inference_steps": self.steps,
            "generator": [torch.Generator("cpu").manual_seed(abs(seed)) for seed in seeds],
            "output_type": output_type,
        }
        parameters = self.parameters
        if "negative_prompt" in parameters:
            arguments["negative_prompt"] = [""] * len(texts)  # a list, since some pipelines broadcast one string wrongly
        for name, value in (("guidance_scale", self.guidance), ("height", self.height), ("width", self.width)):
            if value is not None:
                arguments[name] = value
        return arguments | {name: value for name, value in AS_GIVEN.items() if name in parameters} | self.call

    @contextlib.contextmanager
    def _session(self, encoded: Encoded) -> Iterator[None]:
        """The pipeline with this process' scheduler, rows and texts evaluated once, and cut texts noticed."""
        pipeline = self.pipeline
        with self.lock, no_word_of_cuts(pipeline), contextlib.ExitStack() as stack:
            own = pipeline.scheduler
            stack.callback(setattr, pipeline, "scheduler", own)
            pipeline.scheduler = self.scheduler
            pipeline.set_progress_bar_config(disable=True)
            for name, part in pipeline.components.items():
                if isinstance(part, torch.nn.Module) and name.startswith("text_encoder"):
                    stack.enter_context(encoded.texts_once(part, name))
                elif isinstance(part, torch.nn.Module) and name not in (*AUTOENCODERS, "safety_checker", "image_encoder"):
                    stack.enter_context(rows_once(part, self.rows))
                elif hasattr(part, "decode") and hasattr(part, "model_max_length"):
                    # past DiffusionPipeline.__setattr__, which would write the stand-in's class into the configuration
                    stack.callback(pipeline.__dict__.__setitem__, name, part)
                    pipeline.__dict__[name] = _NoticesCuts(part, self._kept_tokens())
            yield

    def _kept_tokens(self) -> float:
        """How many tokens of its template and a text a pipeline keeps that cuts them after they are encoded."""
        template = getattr(self.pipeline, "prompt_template_encode_start_idx", None)
        limit = self.parameters.get("max_sequence_length")
        return math.inf if template is None or limit is None else template + self.call.get("max_sequence_length", limit.default)

    def decode(self, latents: torch.Tensor, encoded: Encoded | None = None) -> np.ndarray:
        """Pictures of `latents` (rows, ...), as the process' own pipeline would show them: (rows, height, width, 3) in 0..1.

        The pipeline itself decodes: it runs with a scheduler whose step lands on the wanted latents, so that packing, scaling
        and the autoencoder of every family are its own business. encoded: see `run`.
        """
        if all(getattr(self.pipeline, name, None) is None for name in AUTOENCODERS):
            # a model of pixels: latents are pictures in -1..1
            pictures = latents.float().clamp(-1, 1).movedim(1, -1).cpu().numpy() / 2 + 0.5
            return pictures.repeat(3, axis=-1) if pictures.shape[-1] == 1 else pictures[..., :3]
        scheduler = type(self.scheduler).from_config(self.scheduler.config)

        def land(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
            return SchedulerOutput(latents) if return_dict else (latents, latents)

        land.__signature__ = inspect.signature(scheduler.step)  # type: ignore[attr-defined]
        scheduler.step = land
        rows = len(latents)
        return np.asarray(replace(self, scheduler=scheduler, steps=1).run([""] * rows, [0] * rows, "np", encoded))

    def settings(self) -> dict[str, Any]:
        """Every setting, with the model and its revision, as plain data for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "pipeline": type(self.pipeline).__name__,
            "scheduler": short(type(self.scheduler).__name__),
            "scheduler_config": {k: v for k, v in sorted(self.scheduler.config.items()) if not k.startswith("_")},
            "steps": int(self.steps),
            "guidance": None if self.guidance is None else float(self.guidance),
            "height": self.height,
            "width": self.width,
            "unit": self.unit,
            "alone": self.alone,
            "call": self.call,
            "dtype": str(self.pipeline.dtype).removeprefix("torch."),
            "device": str(self.workers or self.pipeline.device),
        }

    def identity(self) -> str:
        """SHA-256 of all that changes a number: settings, configurations, vocabularies and the weights as they are in memory.

        Not of what is switched on in a module and stands in neither, such as FreeU.
        """
        # where weights came from, and where they lie, changes nothing
        settings = {**self.settings(), "model": "", "revision": "", "device": ""}
        return hashlib.sha256((json.dumps(settings, default=str) + digest(self.pipeline)).encode()).hexdigest()


def opposite(generators: Sequence[torch.Generator], seeds: Sequence[int]) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, normal noise from the generators of negative seeds comes out with the opposite sign."""
    negative = [generator for generator, seed in zip(generators, seeds, strict=True) if seed < 0]
    return _Opposite(negative) if negative else contextlib.nullcontext()


class _Opposite(TorchFunctionMode):
    """While it lasts, normal noise from `generators` comes out with the opposite sign, wherever it is drawn."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = {id(generator) for generator in generators}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = function(*args, **kwargs)
        return -drawn if function is torch.randn and id(kwargs.get("generator")) in self.generators else drawn


class _NoticesCuts:
    """A tokenizer that warns when a text will not count whole, and is the wrapped one in everything else."""

    def __init__(self, tokenizer: Any, kept: float) -> None:
        vars(self).update(_tokenizer=tokenizer, _kept=kept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._tokenizer, name, value)  # some pipelines choose the side to pad

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
        limit = min(options.get("max_length") or self._tokenizer.model_max_length, self._kept)
        if options.get("truncation"):
            texts = [text] if isinstance(text, str) else text
            for one in dict.fromkeys(one for one in texts if isinstance(one, str)):
                tokens = self._tokenizer(one, truncation=False, verbose=False).input_ids
                known = [getattr(self._tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "sep", "cls", "pad")]
                unknown = self._tokenizer.unk_token_id
                if unknown is not None and unknown not in known and unknown in tokens:
                    warnings.warn(
                        f"text {one[:40]!r} has {tokens.count(unknown)} symbols that this model's encoder does not know and "
                        "takes for one and the same; say it in words",
                        TextCutWarning,
                        stacklevel=2,
                    )
                if len(tokens) > limit:
                    lost = self._tokenizer.decode(tokens[limit - 1 :], skip_special_tokens=True)
                    warnings.warn(
                        f"text of {len(tokens)} tokens, but this model's encoder takes {limit}: "
                        f"{lost[:80]!r}{'...' if len(lost) > 80 else ''} does not count; shorten the text",
                        TextCutWarning,
                        stacklevel=2,
                    )
        return self._tokenizer(text, *args, **options)
