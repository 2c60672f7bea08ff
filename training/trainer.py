"""The training loop of all stages: AdamW, cosine learning rate, averaged weights, checkpoints and resuming, on a GPU or a CPU.

The random numbers of step i depend on (seed, i) and the type of the device alone. A run that is stopped and resumed therefore
sees the same batches and the same noise as a run without a stop. A step whose gradients are not finite is skipped.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Returns the loss of one batch, which it draws from the generator
LossFunction = Callable[[torch.Generator], torch.Tensor]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LOG_INTERVAL = 200  # steps
HELD_OUT_BATCHES = 4
SECONDS_BETWEEN_CHECKPOINTS = 120
MAX_SKIPPED_STEPS = 100  # in succession


@dataclass(frozen=True)
class Schedule:
    """Length and speed of a run.

    Attributes:
        samples: The number of training images that the run processes, repetitions included.
        batch_size: The number of images per step.
        learning_rate: The peak of the learning rate, reached after the warmup.
        warmup_steps: The number of steps in which the learning rate rises linearly. A cosine decay to zero bounds it from above.
        ema_decay: The decay of the exponential moving average of the weights.
        weight_decay: The weight decay of AdamW.
        seed: The seed of all random numbers of the run.
    """

    samples: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 200
    ema_decay: float = 0.999
    weight_decay: float = 0.01
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.samples // self.batch_size


def autocast() -> torch.autocast:
    """Return a context manager that computes matrix products in bfloat16 if the processor supports them natively.

    On a CPU with AVX-512 BF16 a step is 1.3 to 2.5 times as fast with it.
    """
    capabilities = torch.cpu.get_capabilities()
    is_native = DEVICE.type == "cuda" or capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=is_native)


def compiled(module: torch.nn.Module) -> Callable[..., Any]:
    """Return the module compiled by torch.compile on a GPU, and unchanged on a CPU."""
    return torch.compile(module) if DEVICE.type == "cuda" else module


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the random generator of one step on `DEVICE`, which depends on (`seed`, `step`) alone."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1
    return torch.Generator(DEVICE).manual_seed(int(state))


def randn(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator, device=DEVICE)


def rand(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    return torch.rand(tuple(shape), generator=generator, device=DEVICE)


def sample(values: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    """Return `number` of the values, drawn with replacement."""
    return values[torch.randint(len(values), (number,), generator=generator, device=DEVICE)]


def fit(
    model: torch.nn.Module,
    schedule: Schedule,
    train_loss: LossFunction,
    held_out_loss: LossFunction,
    run_folder: Path,
    settings: object = None,
) -> None:
    """Train `model` in place. Afterwards it holds its averaged weights and is on the CPU.

    The run resumes from `run_folder/checkpoint.pt` if that file exists. Every `LOG_INTERVAL` steps the step, both losses and the
    seconds of training are appended to `run_folder/losses.csv`.

    Args:
        model: The model to train, on `DEVICE`.
        schedule: The length and speed of the run.
        train_loss: The loss that is minimised.
        held_out_loss: The loss that is logged beside it, on held-out images.
        run_folder: The folder of the checkpoint and the loss curve. It is created if it does not exist.
        settings: What else decides what the run gives, such as the version of the data; compared as text.

    Raises:
        SystemExit: If the checkpoint is of a run with other initial weights or settings, or if many gradients are not finite.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    checkpoint = run_folder / "checkpoint.pt"
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay, fused=True
    )

    def learning_rate_factor(step: int) -> float:
        return min((step + 1) / schedule.warmup_steps, 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))

    average = EMAModel(model.parameters(), decay=schedule.ema_decay, foreach=True)
    first_step, previous_seconds = 0, 0.0
    all_settings = repr((schedule, settings))
    initial_norms = torch.stack([weights.detach().float().norm() for weights in model.parameters()])
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=DEVICE)
        # with a tolerance, because another processor may round differently
        has_same_start = saved["start"].shape == initial_norms.shape and torch.allclose(saved["start"], initial_norms, rtol=1e-3)
        if not has_same_start or saved.get("settings") != all_settings:
            different = "settings or data" if has_same_start else "weights at the start"
            raise SystemExit(f"{checkpoint} belongs to a run with other {different}; move {run_folder} away to train anew")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average.load_state_dict(saved["average"])
        first_step, previous_seconds = saved["step"], saved["seconds"]

    loss_curve = run_folder / "losses.csv"
    _drop_rows_after(loss_curve, first_step)

    def save_checkpoint(step: int) -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                 "average": average.state_dict(), "start": initial_norms, "settings": all_settings, "step": step,
                 "seconds": previous_seconds + time.monotonic() - started_at}  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".partial"))
        os.replace(checkpoint.with_suffix(".partial"), checkpoint)  # atomic: a stop while writing keeps the previous checkpoint

    started_at = saved_at = time.monotonic()
    skipped = 0
    recent_losses: list[torch.Tensor] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, loss_curve.open("a", newline="") as log:
        task = bar.add_task(run_folder.name, total=schedule.steps, completed=first_step)
        for step in range(first_step, schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.learning_rate * learning_rate_factor(step)
            with autocast():
                loss = train_loss(step_generator(schedule.seed, step))
            optimiser.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            skipped = 0 if norm.isfinite() else skipped + 1
            if skipped > MAX_SKIPPED_STEPS:
                raise SystemExit(f"the gradients of {MAX_SKIPPED_STEPS} steps in succession were not finite; see {loss_curve}")
            if not skipped:
                optimiser.step()
                average.step(model.parameters())
                recent_losses.append(loss.detach())
            bar.update(task, advance=1)
            is_last = step + 1 == schedule.steps
            if (step + 1) % LOG_INTERVAL == 0 or is_last:
                # always the same held-out batches and noise, so that the curve changes with the model alone
                with torch.no_grad(), autocast():
                    held_out = np.mean(
                        [float(held_out_loss(step_generator(schedule.seed + 1, i))) for i in range(HELD_OUT_BATCHES)]
                    )
                mean_loss = float(torch.stack(recent_losses).mean()) if recent_losses else math.nan
                seconds = previous_seconds + time.monotonic() - started_at
                csv.writer(log).writerow([step + 1, f"{mean_loss:.5f}", f"{held_out:.5f}", f"{seconds:.0f}"])
                log.flush()
                bar.update(task, description=f"{run_folder.name}: loss {mean_loss:.4f}, held out {held_out:.4f}")
                recent_losses.clear()
            if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS or is_last:
                save_checkpoint(step + 1)
                saved_at = time.monotonic()
    average.copy_to(model.parameters())
    model.to("cpu")


def _drop_rows_after(loss_curve: Path, step: int) -> None:
    """Delete the rows that were logged after the last checkpoint, because those steps will be repeated."""
    if loss_curve.exists():
        with loss_curve.open(newline="") as file:
            rows = [row for row in csv.reader(file) if int(row[0]) <= step]
        with loss_curve.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
