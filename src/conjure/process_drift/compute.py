r"""The divergence between two processes A and B on the same text.

The two reverse processes differ in their scores, so by Girsanov's theorem

$$\mathrm{KL}(P_A(y) \Vert P_B(y)) = \frac12 \, \mathbb{E}_{P_A(y)} \int g(t)^2 \, \lVert s_A(x_t, t \mid y) - s_B(x_t, t \mid y)
\rVert^2 \, dt .$$

Each process simulates the trajectories of every text, and the other process is evaluated at their noisy latents. The trajectories
are kept on the CPU, so that only one of the models is in the memory of the device at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.process_drift.comparison import ProcessComparison
from conjure.process_drift.facts import inspect_process
from conjure.process_drift.groups import built_in_texts, compare_groups
from conjure.process_drift.results import Drift
from conjure.process_drift.sources import ProcessLike, ProcessSource
from conjure.process_drift.spool import TensorSpool
from conjure.process_drift.validation import check_drift_arguments, check_text_list, texts_of_groups
from conjure.similarity.options import SamplingOptions


def drift(
    process_a: ProcessLike,
    process_b: ProcessLike,
    texts: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
    *,
    samples: int = 3,
    seed: int = 0,
    unit: Unit | None = None,
    images: int = 0,
    progress: ProgressCallback | None = None,
) -> Drift:
    """Estimate how far two processes differ on each of some texts.

    A process can be given as the name of a model or as a function that loads it. It is then loaded for each part of the
    computation and released after it, so that two models fit into the memory one after the other.

    Args:
        process_a: The first process, the reference: a process, what `conjure.load` accepts as the name of a model, or a
            function without arguments that returns a process.
        process_b: The second process.
        texts: The texts, each once; or the texts of each group by the name of the group, which are then compared with each
            other. None: 500 built-in texts in eight groups.
        samples: The number k of Monte-Carlo samples. Standard errors need at least two.
        seed: The seed of the noise. Both processes start from the same noise.
        unit: The unit of the uniform weighting, as in `conjure.distance`; None for the default of process A. `output` is the
            unit of the predictions of A, to which those of B are converted.
        images: The number of texts that changed most, and of those that changed least, whose images are decoded.
        progress: Called with the number of finished denoising steps and the total number.

    Returns:
        The divergences of all texts, sorted from the largest to the smallest.

    Raises:
        InputError: If a text or a value is invalid, a process cannot be loaded, or the processes cannot be compared.

    Warns:
        IndistinctTextWarning: If a model has no token for a text.
        TextTruncationWarning: If a text is truncated.
    """
    groups = built_in_texts() if texts is None else texts_of_groups(texts) if isinstance(texts, Mapping) else {}
    texts = [text for group in groups.values() for text in group] if groups else check_text_list(texts)
    SamplingOptions.create("output", samples=samples, seed=seed, unit=unit).validate(texts)
    check_drift_arguments(texts, images)
    source_a, source_b = ProcessSource(process_a, "process A"), ProcessSource(process_b, "process B")
    facts_a = source_a.use(lambda process: inspect_process(process, texts[0]))

    with contextlib.closing(TensorSpool()) as spool:

        def start(process: Process) -> ProcessComparison:
            facts_b = inspect_process(process, texts[0])
            options = SamplingOptions.create(facts_a.default_unit, samples=samples, seed=seed, unit=unit)
            comparison = ProcessComparison(facts_a, facts_b, texts, options, images, spool, progress)
            comparison.start_with_b(process)
            return comparison

        comparison = source_b.use(start)
        source_a.use(comparison.run_a)
        result = source_b.use(comparison.finish_with_b)
    return replace(result, groups=compare_groups(result.texts, groups)) if groups else result
