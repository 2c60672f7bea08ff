"""The command `calibrate`: the distances of fixed pairs of texts, which give the distances of a process a scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import conjure
from conjure.cli.console import ProgressBar, TruncationWarnings, print_json, print_text, stderr
from conjure.cli.options import AsJson, Divergence, Weighting
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.errors import InputError

if TYPE_CHECKING:
    from conjure.diffusion.jobs import TrajectoryJob


@with_process_options()
def calibrate(
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
) -> None:
    """Measure the scale of a process, once: the distances of 300 unrelated pairs of texts and of 100 paraphrases.

    Afterwards compare, matrix, nearest and distances also print similarities: the share of unrelated pairs that are farther
    apart. The calibration is kept in the store (--store), where a stopped one is resumed. It serves every divergence, weighting
    and unit. The default model with its default settings is calibrated already.
    """
    sampling = validated_sampling((), process_options.unit, samples=1, divergence=divergence, weighting=weighting)
    process = process_options.load()
    from conjure.engine.forecast import compile_if_it_pays, forecast
    from conjure.similarity.calibration import find_calibration
    from conjure.similarity.options import SamplingOptions

    config = SamplingOptions.create(process.default_unit, **sampling).config
    if process.store is None and find_calibration(process, process.fingerprint()) is None:
        raise InputError("the calibration has no file to be kept in; give a store with --store FILE or CONJURE_STORE")

    def announce(jobs: Sequence[TrajectoryJob]) -> None:
        if expected := forecast(process, jobs):
            compiled = ", with a compiled denoiser" if compile_if_it_pays(process, expected) else ""
            stderr.print(f"running {len(jobs):,} trajectories: {expected}{compiled}")

    with TruncationWarnings(), ProgressBar() as progress:
        scale = conjure.calibrate(process, progress=progress, on_start=announce).scale(config)
    if as_json:
        print_json(scale.to_dict() | {"process": process.settings(), "fingerprint": process.fingerprint()})
    else:
        print_text(f"{scale}\n")
