"""From the options of a command to valid sampling arguments and a loaded process."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

import conjure
from conjure.cli import options
from conjure.cli.console import silence, stderr

HARDWARE = ("device", "compile", "offload")  # options that apply to the workers, where there are some


@dataclass(frozen=True)
class ProcessOptions:
    """The options of a command that define its process and its hardware; None selects the default of `conjure.load`.

    `with_process_options` makes an option of each field.
    """

    model: options.Model = "default"
    steps: options.Steps = None
    guidance: options.Guidance = None
    scheduler: options.Scheduler = None
    unit: options.Unit = None
    negative_prompt: options.NegativePrompt = None
    height: options.Height = None
    width: options.Width = None
    frames: options.Frames = None
    fps: options.FrameRate = None
    seconds: options.Seconds = None
    lora: options.Lora = None
    textual_inversion: options.TextualInversion = None
    device: options.Device = None
    dtype: options.Dtype = None
    variant: options.Variant = None
    quantize: options.Quantize = None
    offload: options.Offload = None
    store: options.StorePath = None
    workers: options.NumWorkers = None
    ray: options.RayAddress = None
    compile: options.Compile = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of `conjure.load`."""
        settings = asdict(self)
        for name in ("lora", "textual_inversion"):
            settings[name] = settings[name] or None  # an option that is not given may be an empty list
        return {name: value for name, value in settings.items() if name not in ("store", "workers", "ray")}

    def load(self) -> conjure.Process:
        """Load the process, with its store and its workers.

        Raises:
            InputError: The model, the store or the cluster cannot be used, or a setting is invalid.
        """
        with stderr.status("loading the model"):
            return self.load_silently()

    def load_silently(self) -> conjure.Process:
        """Load the process without a message, such as while a bar shows the progress. The errors are those of `load`."""
        # The imports create about a million objects that stay alive until the exit. Garbage collections over them, during the
        # imports and at the exit, would take a quarter of the run time of a short command.
        gc.disable()
        load = conjure.load
        gc.freeze()
        gc.enable()
        silence()
        settings, workers = self.arguments(), None
        if self.workers is not None or self.ray is not None:
            workers = conjure.Workers(self.workers, self.ray, {name: settings[name] for name in HARDWARE if settings[name]})
            # the local process only provides settings and fingerprint
            settings |= {"device": "cpu", "compile": False, "offload": None}
        opened_store = open_store(self.store)
        return load(**settings).set(store=opened_store, workers=workers)


def with_process_options(*without: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces the parameter `process_options` of a command by one option per field.

    Args:
        *without: Fields that the command has no option for.
        **defaults: Other default values of options.
    """
    hints = get_type_hints(ProcessOptions, include_extras=True)
    expanded = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=hints[field.name],
        )
        for field in fields(ProcessOptions)
        if field.name not in without
    ]
    names = [parameter.name for parameter in expanded]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            is_expanded = parameter.name == "process_options"
            parameters += expanded if is_expanded else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            process_options = ProcessOptions(**{name: arguments.pop(name) for name in names})
            command(process_options=process_options, **arguments)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def open_store(path: str | None) -> conjure.Store | None:
    """Return the store that `--store` names, or None without that option."""
    return None if path is None else conjure.Store(path)


def validated_sampling(texts: Iterable[str], unit: str | None, **sampling: Any) -> dict[str, Any]:
    """Validate texts and sampling arguments, which takes no model, and return the sampling arguments.

    Args:
        texts: All texts that the command compares.
        unit: The unit of the uniform weighting, which becomes the default unit of the process.
        **sampling: Keyword arguments of `conjure.distance`: samples, seed, divergence, weighting, ...

    Raises:
        InputError: An argument is invalid.
    """
    from conjure.similarity.options import SamplingOptions

    arguments = {"unit": unit, **sampling}
    SamplingOptions.create("output", **arguments).validate(texts)
    return sampling
