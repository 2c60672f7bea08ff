"""Carries out sources: one text, one seed, and the texts that judge its trajectory. Everything above is a list of them.

Nothing needs to be kept between sources and their order does not matter, so they are packed into full batches here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from conjure.lockstep import Visit, follow
from conjure.process import Process
from conjure.units import Level, output_of, x0_of

Progress = Callable[[int, int], None]  # (done, all) denoising steps of sources


@dataclass(frozen=True)
class Source:
    """The trajectory of `text` from the noise of `seed`, judged by `targets`."""

    text: str
    seed: int
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """What a source's rows looked like at each step, as latents on the CPU.

    x_t: shape (T, ...), in network coordinates. x0: the denoised predictions, (T, 1 + targets, ...), the source's own first.
    """

    x_t: torch.Tensor
    x0: torch.Tensor


@dataclass(frozen=True)
class Measured:
    """What a source gave.

    squared: `|m(x_t | text) - m(x_t | target)|^2` summed over dimensions, float64 of shape (targets, T), m the model's output.
    timesteps, levels: the T visited ones, and their levels of noise.
    final: the last latents, on the CPU. pictures: where they were asked for.
    """

    source: Source
    squared: np.ndarray
    timesteps: tuple[float, ...]
    levels: tuple[Level, ...]
    final: torch.Tensor
    pictures: Pictures | None


def batches(sources: Iterable[Source], rows: int) -> Iterator[list[Source]]:
    """`sources` in order, packed so that no batch has more than `rows` rows (a larger source stands alone)."""
    batch: list[Source] = []
    filled = 0
    for source in sources:
        size = 1 + len(source.targets)
        if batch and filled + size > rows:
            yield batch
            batch, filled = [], 0
        batch.append(source)
        filled += size
    if batch:
        yield batch


def run(
    process: Process, sources: Sequence[Source], *, pictures: Sequence[Source] = (), progress: Progress | None = None
) -> Iterator[Measured]:
    """Measure every source, in order. pictures: the sources whose looks are to be kept as well.

    A batch that does not fit into the device's memory is halved, which changes no number; `torch.OutOfMemoryError` is
    left to the caller only where a single source does not fit.
    """
    waiting = deque(batches(sources, process.rows))
    done = 0
    while waiting:
        batch = waiting.popleft()

        def report(steps: int, before: int = done, size: int = len(batch)) -> None:
            if progress:
                progress(before * process.steps + steps * size, len(sources) * process.steps)

        try:
            measured = _measure(process, batch, pictures, report)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            waiting.extendleft([batch[half:], batch[:half]])
            continue
        done += len(batch)
        yield from measured


def _measure(process: Process, batch: list[Source], pictures: Sequence[Source], report: Callable[[int], None]) -> list[Measured]:
    output = output_of(process.scheduler)
    texts: list[str] = []
    drivers: list[int] = []
    seeds: list[int] = []
    for source in batch:
        drivers += [len(texts)] * (1 + len(source.targets))
        texts += [source.text, *source.targets]
        seeds += [source.seed] * (1 + len(source.targets))
    starts = sorted(set(drivers))
    squared: list[torch.Tensor] = []
    timesteps: list[float] = []
    levels: list[Level] = []
    looks: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {
        start: [] for start, source in zip(starts, batch, strict=True) if source in pictures
    }

    def observe(visit: Visit) -> None:
        m = visit.output.float()
        squared.append((m - m[drivers]).flatten(1).square().sum(1))
        timesteps.append(visit.timestep)
        levels.append(visit.level)
        for start, kept in looks.items():
            rows = slice(start, start + 1 + len(batch[starts.index(start)].targets))
            x_t = visit.x_t.float()
            kept.append((x_t[start].cpu(), x0_of(output, x_t[rows], m[rows], visit.level).cpu()))
        report(visit.index + 1)

    final = follow(process, texts, drivers, seeds, observe).float().cpu()
    table = torch.stack(squared, 1).double().cpu().numpy()
    return [
        Measured(
            source=source,
            squared=table[start + 1 : start + 1 + len(source.targets)],
            timesteps=tuple(timesteps),
            levels=tuple(levels),
            final=final[start],
            pictures=Pictures(*(torch.stack(part) for part in zip(*looks[start], strict=True))) if start in looks else None,
        )
        for start, source in zip(starts, batch, strict=True)
    ]
