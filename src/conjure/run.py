"""Carries out sources: one text, one seed, and the texts that judge its trajectory. Everything above is a list of them.

Nothing needs to be kept between sources and their order does not matter, so they are packed into full batches here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from conjure.lockstep import Path, Visit, follow
from conjure.memory import Rows
from conjure.once import Encoded
from conjure.process import Process
from conjure.units import Level, output_of, x0_of

R = TypeVar("R")
Progress = Callable[[int, int], None]  # (done, all) denoising steps of sources


@dataclass(frozen=True)
class Source:
    """The trajectory of `text` from the noise of `seed` (a negative one: the opposite noise), judged by `targets`."""

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


def run(
    process: Process,
    sources: Sequence[Source],
    *,
    pictures: Sequence[Source] = (),
    progress: Progress | None = None,
    rows: Rows | None = None,
) -> Iterator[Measured]:
    """Measure every source, in order; by the process' workers where it has some, as results come.

    A batch that does not fit into the device's memory is run again in smaller ones, which changes no number.

    pictures: the sources whose looks are to be kept as well. rows: what is known of the memory from earlier calls.

    Errors: `InputError` where not even one row fits, and those of `Workers.run`.
    """
    for batch in run_batches(process, sources, pictures=pictures, progress=progress, rows=rows):
        yield from batch


def run_batches(
    process: Process,
    sources: Sequence[Source],
    *,
    pictures: Sequence[Source] = (),
    progress: Progress | None = None,
    rows: Rows | None = None,
) -> Iterator[list[Measured]]:
    """What `run` gives, and takes, in the batches in which it was measured.

    Whoever keeps results keeps a batch whole or not at all: then what is left after a stop is packed into the very batches of a
    run that was not stopped, and gives its bits.
    """
    if process.workers:
        yield from process.workers.run(process, sources, pictures=pictures, progress=progress)
        return
    rows, encoded = rows or Rows(process.pipeline.device, process.rows), Encoded()

    def measure(batch: Sequence[Source], before: int) -> list[Measured]:
        def report(steps: int) -> None:
            if progress:
                progress(before * process.steps + steps * len(batch), len(sources) * process.steps)

        return _measure(replace(process, rows=rows.number), batch, pictures, report, encoded)

    yield from batched(sources, rows, measure)


def batched(sources: Sequence[Source], rows: Rows, work: Callable[[Sequence[Source], int], R]) -> Iterator[R]:
    """What `work` makes of all `sources`, packed into batches of as many `rows` as the memory takes.

    work: is given a batch and the number of sources before it.
    """
    done = 0
    while done < len(sources):
        batch = sources[done : end_of_batch(sources, done, rows.number)]
        try:
            made = work(batch, done)
        except Exception as error:
            if not rows.failed(error):
                raise
            continue
        done += len(batch)
        rows.fitted(min(rows.number, sum(map(cost, batch))))
        yield made


def cost(source: Source) -> int:
    """Denoiser rows that `source` takes a step: each text, and the one without text that guidance asks for."""
    return 2 + len(source.targets)


def end_of_batch(sources: Sequence[Source], start: int, rows: int) -> int:
    """Where the batch from `start` on ends: it costs at most `rows`, or is one source, whose rows the denoiser takes in turns."""
    end = start + 1
    left = rows - cost(sources[start])
    while end < len(sources) and (left := left - cost(sources[end])) >= 0:
        end += 1
    return end


def rows_of(batch: Sequence[Source]) -> tuple[list[str], list[int], list[int]]:
    """The rows of a batch: each source's text and then its targets, the row that drives each, and their seeds."""
    texts: list[str] = []
    drivers: list[int] = []
    seeds: list[int] = []
    for source in batch:
        drivers += [len(texts)] * (1 + len(source.targets))
        texts += [source.text, *source.targets]
        seeds += [source.seed] * (1 + len(source.targets))
    return texts, drivers, seeds


def _measure(
    process: Process, batch: Sequence[Source], pictures: Sequence[Source], report: Callable[[int], None], encoded: Encoded
) -> list[Measured]:
    texts, drivers, seeds = rows_of(batch)
    starts = dict(zip(sorted(set(drivers)), batch, strict=True))
    shown = {start: source for start, source in starts.items() if source in pictures}
    squared: list[torch.Tensor] = []
    looks: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {start: [] for start in shown}
    timesteps: list[float] = []
    levels: list[Level] = []
    output = output_of(process.scheduler)

    def observe(visit: Visit) -> None:
        m = visit.output.float()
        squared.append((m - m[drivers]).flatten(1).square().sum(1))
        timesteps.append(visit.timestep)
        levels.append(visit.level)
        for start, source in shown.items():
            rows = slice(start, start + 1 + len(source.targets))
            x_t = visit.x_t.float()
            looks[start].append((x_t[start].cpu(), x0_of(output, x_t[rows], m[rows], visit.level).cpu()))
        report(visit.index + 1)

    final = walker(process)(process, texts, drivers, seeds, observe, encoded=encoded).float().cpu()
    table = torch.stack(squared, 1).cpu().double().numpy()
    return [
        Measured(
            source=source,
            squared=table[start + 1 : start + 1 + len(source.targets)],
            timesteps=tuple(timesteps),
            levels=tuple(levels),
            final=final[start].clone(),  # a view would hold the whole batch, and take it along to where it is sent
            pictures=Pictures(*(torch.stack(part) for part in zip(*looks[start], strict=True))) if start in looks else None,
        )
        for start, source in starts.items()
    ]


def walker(process: Process) -> Callable[..., torch.Tensor]:
    """What walks rows of `process` in lockstep: `lockstep.follow`, or the like of it for texts that must have no company."""
    return _apart if process.alone else follow


def _apart(
    process: Process,
    texts: Sequence[str],
    drivers: Sequence[int],
    seeds: Sequence[int],
    observe: Callable[[Visit], None],
    *,
    encoded: Encoded,
) -> torch.Tensor:
    """`follow`, but no text shares a batch with another: drivers walk first, then judges walk their points again."""
    visits: list[list[Visit | None]] = []
    finals: list[torch.Tensor | None] = [None] * len(texts)
    paths: dict[int, Path] = {}
    judges = [row for row in range(len(texts)) if texts[drivers[row]] != texts[row]]
    for rows in (sorted(set(drivers)), judges):
        for text in dict.fromkeys(texts[row] for row in rows):
            own = [row for row in rows if texts[row] == text]
            walked = [paths[drivers[row]].points for row in own if drivers[row] in paths]
            path = Path([torch.cat(points) for points in zip(*walked, strict=True)])

            def note(visit: Visit, own: list[int] = own) -> None:
                if len(visits) == visit.index:
                    visits.append([None] * len(texts))
                for row, x_t, output in zip(own, visit.x_t.split(1), visit.output.split(1), strict=True):
                    visits[visit.index][row] = replace(visit, x_t=x_t, output=output)

            final = follow(process, [text] * len(own), range(len(own)), [seeds[row] for row in own], note,
                           encoded=encoded, path=path)  # fmt: skip
            for row, end, *points in zip(own, final.split(1), *(point.split(1) for point in path.points), strict=True):
                finals[row] = end
                paths.setdefault(row, Path(points))
    for rows_of_step in visits:  # a text that judges itself says what it said
        told = [visit or rows_of_step[driver] for visit, driver in zip(rows_of_step, drivers, strict=True)]
        whole = [visit for visit in told if visit is not None]
        x_t, output = (torch.cat([getattr(visit, part) for visit in whole]) for part in ("x_t", "output"))
        observe(replace(whole[0], x_t=x_t, output=output))
    ends = [final if final is not None else finals[driver] for final, driver in zip(finals, drivers, strict=True)]
    return torch.cat([end for end in ends if end is not None])
