"""Shared trajectories where the result for a text may depend on the other rows of its batch: smaller batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.process import Process
from conjure.diffusion.shared_trajectory import DenoisingStep, RecordedTrajectory, run_on_shared_trajectories


def run_unbatched(
    process: Process,
    texts: Sequence[str],
    source_rows: Sequence[int],
    seeds: Sequence[int],
    on_step: Callable[[DenoisingStep], None],
    *,
    text_cache: TextEmbeddingCache | None = None,
    single_rows: bool = False,
) -> Float[Tensor, "rows *latent"]:
    """Run rows on shared trajectories, where each batch has rows with one text only, or a single row.

    Source rows run first and their trajectories are recorded. The other rows then follow the recorded points.
    Other arguments, result and errors are those of `run_on_shared_trajectories`.
    """
    per_row_steps: list[list[DenoisingStep | None]] = []
    finals: list[Tensor | None] = [None] * len(texts)
    trajectories: dict[int, RecordedTrajectory] = {}
    evaluated = [row for row in range(len(texts)) if texts[source_rows[row]] != texts[row]]
    for rows in (sorted(set(source_rows)), evaluated):
        for key in dict.fromkeys(row if single_rows else texts[row] for row in rows):
            text_rows = [row for row in rows if key in (row, texts[row])]
            recorded = [trajectories[source_rows[row]].points for row in text_rows if source_rows[row] in trajectories]
            replay = RecordedTrajectory([torch.cat(points) for points in zip(*recorded, strict=True)])

            def collect(step: DenoisingStep, text_rows: list[int] = text_rows) -> None:
                if len(per_row_steps) == step.index:
                    per_row_steps.append([None] * len(texts))
                for row, x_t, prediction in zip(text_rows, step.x_t.split(1), step.predictions.split(1), strict=True):
                    per_row_steps[step.index][row] = replace(step, x_t=x_t, predictions=prediction)

            final = run_on_shared_trajectories(
                process, [texts[row] for row in text_rows], range(len(text_rows)), [seeds[row] for row in text_rows], collect,
                text_cache=text_cache, replay=replay,
            )  # fmt: skip
            for row, end, *points in zip(text_rows, final.split(1), *(point.split(1) for point in replay.points), strict=True):
                finals[row] = end
                trajectories.setdefault(row, RecordedTrajectory(points))
    for row_steps in per_row_steps:
        # A row with the text of its source row has the prediction of its source row
        complete = [step for row, source in enumerate(source_rows) if (step := row_steps[row] or row_steps[source]) is not None]
        x_t, predictions = (torch.cat([getattr(step, part) for step in complete]) for part in ("x_t", "predictions"))
        on_step(replace(complete[0], x_t=x_t, predictions=predictions))
    ends = [finals[row] if finals[row] is not None else finals[source] for row, source in enumerate(source_rows)]
    return torch.cat([end for end in ends if end is not None])
