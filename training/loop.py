"""One training loop for all stages: AdamW, cosine rate, exponential average, checkpoints, resume; on a GPU where there is one.

The draws of step i come from (seed, i) alone, so a run that was stopped and continued sees what an undisturbed one sees.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Loss = Callable[[np.random.Generator, torch.Generator], torch.Tensor]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """Matrix products in bfloat16 where the processor has them: 1.3 to 2.5 times the pace on a CPU with AVX-512 BF16."""
    native = torch.cpu.get_capabilities()
    fast = DEVICE.type == "cuda" or native.get("avx512_bf16", False) or native.get("amx_bf16", False)
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=fast)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `samples` pictures in batches of `batch`, peak `rate` after `warmup` steps, seed of all draws."""

    samples: int
    batch: int
    rate: float
    warmup: int = 200
    average: float = 0.999
    weight_decay: float = 0.01
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.samples // self.batch


def given(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the CPU on `DEVICE`, which is not waited for."""
    return tensor.pin_memory().to(DEVICE, non_blocking=True) if DEVICE.type == "cuda" else tensor


def draws(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random generators of one step."""
    words = np.random.SeedSequence((seed, step)).generate_state(2)
    return np.random.default_rng(words[0]), torch.Generator().manual_seed(int(words[1]))


def fit(model: torch.nn.Module, schedule: Schedule, loss: Loss, held_out: Loss, folder: Path, save_every_s: float = 120) -> None:
    """Train `model`, which lies on `DEVICE`, in place and leave it with its averaged weights on the CPU.

    It goes on from `folder/checkpoint.pt` where there is one, and refuses that of a run which began with other weights.

    loss, held_out: the loss of a batch drawn from the given generators. Both go to `folder/losses.csv` with the seconds spent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay, fused=True
    )

    def rate(step: int) -> float:
        return min((step + 1) / schedule.warmup, 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))

    cosine = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    average = EMAModel(model.parameters(), decay=schedule.average, use_ema_warmup=True, power=0.75, foreach=True)
    first, spent = 0, 0.0
    start = torch.stack([weights.detach().float().norm() for weights in model.parameters()])
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=DEVICE)
        # not to the bit, since another processor may round otherwise
        if saved["start"].shape != start.shape or not torch.allclose(saved["start"], start, rtol=1e-3):
            raise SystemExit(f"{checkpoint} belongs to a run that began with other weights: move {folder} away, and train anew")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        cosine.load_state_dict(saved["cosine"])
        average.load_state_dict(saved["average"])
        first, spent = saved["step"], saved["seconds"]

    curve = folder / "losses.csv"
    if curve.exists():  # without the lines that were written after the last checkpoint, since those steps come again
        with curve.open(newline="") as file:
            kept = [row for row in csv.reader(file) if int(row[0]) <= first]
        with curve.open("w", newline="") as file:
            csv.writer(file).writerows(kept)

    def save(step: int) -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "cosine": cosine.state_dict(),
                 "average": average.state_dict(), "start": start, "step": step,
                 "seconds": spent + time.monotonic() - begun}  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".partial"))
        os.replace(checkpoint.with_suffix(".partial"), checkpoint)  # a stop while writing leaves the old one whole

    begun = saved_at = time.monotonic()
    running: list[torch.Tensor] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, curve.open("a", newline="") as log:
        task = bar.add_task(folder.name, total=schedule.steps, completed=first)
        for step in range(first, schedule.steps):
            with autocast():
                value = loss(*draws(schedule.seed, step))
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            cosine.step()
            average.step(model.parameters())
            running.append(value.detach())  # a number only when it is asked for: a GPU is not waited for
            bar.update(task, advance=1)
            if (step + 1) % 200 == 0 or step + 1 == schedule.steps:
                with torch.no_grad(), autocast():  # always the same held-out draws, so that the curve moves with the model alone
                    held = np.mean([float(held_out(*draws(schedule.seed + 1, i))) for i in range(4)])
                mean, seconds = float(torch.stack(running).mean()), spent + time.monotonic() - begun
                csv.writer(log).writerow([step + 1, f"{mean:.5f}", f"{held:.5f}", f"{seconds:.0f}"])
                log.flush()
                bar.update(task, description=f"{folder.name}: loss {mean:.4f}, held out {held:.4f}")
                running.clear()
            if time.monotonic() - saved_at > save_every_s or step + 1 == schedule.steps:
                save(step + 1)
                saved_at = time.monotonic()
    average.copy_to(model.parameters())
    model.to("cpu")
