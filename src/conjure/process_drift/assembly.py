"""From the differences between two processes to the result of `conjure.drift`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.divergence.intervals import nonnegative_interval
from conjure.io.version import package_version
from conjure.process_drift.agreement import Agreement, process_labels
from conjure.process_drift.facts import ProcessFacts
from conjure.process_drift.results import Drift
from conjure.process_drift.statistics import Mean, means_of, ratios_of, summarize
from conjure.process_drift.text_drift import TextDrift

SUMMARIZED = ("divergence", "relative", "nats", "final", "final_relative")
NATS = DivergenceConfig(weighting="girsanov")


def make_drift(
    a: ProcessFacts,
    b: ProcessFacts,
    agreement: Agreement,
    config: DivergenceConfig,
    differences: Mapping[str, PairDifferences],
    references: Mapping[str, PairDifferences],
    noise: Sequence[PairDifferences],
    seed: int,
) -> Drift:
    """Return the result without images.

    Args:
        a: Process A.
        b: Process B.
        agreement: How they are compared.
        config: The divergence with the uniform weighting.
        differences: The differences between the processes, by text.
        references: The differences between the texts and the empty text under process A; empty if pixels are compared.
        noise: The differences between each process and itself in batches of another size, for some texts.
        seed: The seed of the noise.
    """
    texts = list(differences)
    per_step = [config.per_step(differences[text]) for text in texts]
    totals = np.stack([divergence.total.sum(1) for divergence in per_step])
    finals = np.stack([differences[text].direct for text in texts])
    columns = {
        "divergence": means_of(totals),
        "forward": means_of(np.stack([divergence.forward.sum(1) for divergence in per_step])),
        "backward": means_of(np.stack([divergence.backward.sum(1) for divergence in per_step])),
        "final": means_of(finals),
        **_nats([differences[text] for text in texts], agreement.in_pixels),
        **_relative([references[text] for text in texts if text in references], config, totals, finals),
    }
    floor = max(float(config.per_sample(entry).mean()) for entry in noise)
    entries = []
    for i, text in enumerate(texts):
        entries.append(
            TextDrift(
                text=text,
                **{name: means[i] for name, means in columns.items()},
                is_above_noise=columns["divergence"][i].value > floor,
                per_step=tuple(per_step[i].total.mean(0).tolist()),
                per_step_ci95=tuple(nonnegative_interval(step)[2] for step in per_step[i].total.T),
                samples=tuple(totals[i].tolist()),
            )
        )
    entries.sort(key=lambda entry: entry.divergence.value, reverse=True)
    summaries = {name: summarize([getattr(entry, name).value for entry in entries]) for name in SUMMARIZED}
    nats_noise = [mean.value for mean in _nats(noise, agreement.in_pixels)["nats"]]
    levels = [a.noise_levels[i] for i in agreement.grid.kept]
    return Drift(
        texts=tuple(entries),
        summary={name: summary for name, summary in summaries.items() if summary is not None},
        noise=floor,
        noise_nats=max(nats_noise),
        unit="squared norm of pixels" if agreement.in_pixels else config.unit_label,
        final_unit="squared norm of pixels" if agreement.in_pixels else "squared norm of latents",
        labels=process_labels(a.settings, b.settings),
        checks=agreement.checks,
        seed=seed,
        timesteps=tuple(a.timesteps[i] for i in agreement.grid.kept),
        snr=tuple(level.snr for level in levels),
        process_a=a.settings,
        process_b=b.settings,
        fingerprint_a=a.fingerprint,
        fingerprint_b=b.fingerprint,
        version=package_version(),
        kind=a.kind,
    )


def _nats(differences: Sequence[PairDifferences], in_pixels: bool) -> dict[str, list[Mean]]:
    """Return the divergences in nats; NaN where pixels are compared, or at a single step."""
    names = ("nats", "nats_forward", "nats_backward")
    if in_pixels or len(differences[0].noise_levels) < 2:
        return {name: [Mean(math.nan)] * len(differences) for name in names}
    per_step = [NATS.per_step(entry) for entry in differences]
    parts = ([getattr(entry, part) for entry in per_step] for part in ("total", "forward", "backward"))
    return {name: means_of(_per_sample(part)) for name, part in zip(names, parts, strict=True)}


def _relative(
    references: Sequence[PairDifferences],
    config: DivergenceConfig,
    totals: Float[np.ndarray, "texts samples"],
    finals: Float[np.ndarray, "texts samples"],
) -> dict[str, list[Mean]]:
    """Return the ratios to the distances between the texts and the empty text; NaN without references."""
    if not references:
        return {name: [Mean(math.nan)] * len(totals) for name in ("relative", "final_relative")}
    return {
        "relative": ratios_of(totals, np.stack([config.per_sample(reference) for reference in references])),
        "final_relative": ratios_of(finals, np.stack([reference.direct for reference in references])),
    }


def _per_sample(per_step: Iterable[Float[np.ndarray, "samples steps"]]) -> Float[np.ndarray, "texts samples"]:
    return np.stack([values.sum(1) for values in per_step])
