"""What two processes must have in common to be compared, and how they are compared otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conjure.diffusion.media import PLURALS
from conjure.diffusion.schedulers import has_same_noise_schedule
from conjure.errors import InputError
from conjure.io.formatting import pluralize
from conjure.process_drift.facts import ProcessFacts, same_autoencoder
from conjure.process_drift.grid import CommonGrid, common_grid

# Settings that name a process where they differ between two processes
NAMING_SETTINGS = (
    "model", "revision", "pipeline", "scheduler", "steps", "guidance", "height", "width", "frames", "fps", "seconds", "dtype",
    "device", "pipeline_kwargs", "variant", "lora", "textual_inversion", "quantize",
)  # fmt: skip

SAME_SIZE = {
    "image": "at the same height and width",
    "video": "at the same height, width and number of frames",
    "audio": "of the same length",
}


@dataclass(frozen=True)
class Agreement:
    """How two processes are compared.

    Attributes:
        grid: The noise levels of the comparison.
        in_pixels: Whether images or videos are compared instead of predictions, since the autoencoders differ.
        checks: By name, what was compared between the processes, with the outcome.
    """

    grid: CommonGrid
    in_pixels: bool
    checks: dict[str, str]


def check_agreement(a: ProcessFacts, b: ProcessFacts) -> Agreement:
    """Check that two processes can be compared.

    Raises:
        InputError: If the latents differ in shape, or the noise schedules differ, or no noise level is common; or if two
            models of sounds have different autoencoders.
    """
    if a.kind != b.kind:
        raise InputError(
            f"process A generates {PLURALS[a.kind]} and process B {PLURALS[b.kind]}; compare how they arrange texts "
            "(conjure drift --matrix)"
        )
    if a.latent_shape != b.latent_shape:
        raise InputError(
            f"the latents of process A have the shape {a.latent_shape}, and those of process B {b.latent_shape}; compare them "
            f"{SAME_SIZE[a.kind]}, or, if the models have different latents, how they arrange texts (conjure drift --matrix)"
        )
    sizes = list(zip(a.media_size, b.media_size, strict=True))
    # Latents that are a list of positions have one shape for all sizes with as many positions
    if len(a.latent_shape) == 2 and any(None not in pair and pair[0] != pair[1] for pair in sizes):
        shown = (" x ".join(str(size) for size in facts.media_size if size is not None) for facts in (a, b))
        raise InputError("process A generates {} and process B {}; compare them {}".format(*shown, SAME_SIZE[a.kind]))
    is_flow_a, is_flow_b = (facts.prediction_type == "flow" for facts in (a, b))
    if is_flow_a != is_flow_b:
        raise InputError(
            f"process A predicts {a.prediction_type} and process B {b.prediction_type}, so that their noisy latents differ; "
            "compare two flow models, or two models that predict epsilon, v_prediction or sample"
        )
    if not is_flow_a and not has_same_noise_schedule(a.scheduler, b.scheduler):
        raise InputError(
            "the noise schedules of the two processes differ (beta_start, beta_end, beta_schedule or zero terminal SNR), so that "
            "a timestep is another noise level for each of them; compare models that were trained with one schedule"
        )
    grid = common_grid(a.noise_levels, b.noise_levels)
    in_pixels = not same_autoencoder(a.autoencoder, b.autoencoder)
    if in_pixels and a.kind == "audio":  # no pixels, and samples of a sound also differ where it sounds the same
        raise InputError("the two models of sounds have different autoencoders; compare models with the same one")
    return Agreement(grid, in_pixels, _describe(a, b, grid, in_pixels))


def _describe(a: ProcessFacts, b: ProcessFacts, grid: CommonGrid, in_pixels: bool) -> dict[str, str]:
    if grid.is_same:
        levels = f"the same {pluralize(len(grid.kept), 'level')}"
    else:
        levels = (
            f"different ({a.steps} of A, {b.steps} of B); values along trajectories of B are interpolated to the "
            f"{pluralize(len(grid.kept), 'level')} of A that B covers"
        )
    types = a.prediction_type, b.prediction_type
    is_image_model = a.autoencoder is None and b.autoencoder is None
    if in_pixels:
        autoencoder = "different, so that the decoded x0 are compared in pixels; nats and the relative measure are undefined"
    else:
        autoencoder = "none: the models generate pixels" if is_image_model else "the same"
    return {
        "latent shape": " × ".join(map(str, a.latent_shape)),
        "autoencoder": autoencoder,
        "noise levels": levels,
        "prediction type": types[0] if types[0] == types[1] else f"{types[1]} of B is converted to {types[0]} of A",
    }


def process_labels(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str]:
    """Return names for two processes: the settings in which they differ.

    Args:
        a: The settings of process A.
        b: The settings of process B.
    """
    differing = {name: (a.get(name), b.get(name)) for name in NAMING_SETTINGS if a.get(name) != b.get(name)}
    kwargs = [settings or {} for settings in differing.pop("pipeline_kwargs", ())]
    for name in dict.fromkeys(name for settings in kwargs for name in settings):
        if kwargs[0].get(name) != kwargs[1].get(name):
            differing[name] = kwargs[0].get(name), kwargs[1].get(name)
    values = [", ".join(f"{name} {_format(pair[side])}" for name, pair in differing.items()) for side in range(2)]
    first, second = (f"{letter}: {value}" if value else letter for letter, value in zip("AB", values, strict=True))
    return first, second


def _format(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list) and all(isinstance(adapter, dict) for adapter in value):  # LoRAs, or textual inversions
        weights = [f" x {adapter['weight']:g}" if "weight" in adapter else "" for adapter in value]
        return " + ".join(f"{adapter['name']}{weight}" for adapter, weight in zip(value, weights, strict=True))
    return f"{value:g}" if isinstance(value, float) else str(value)
