"""What the tabs of the web app have in common: controls of settings, progress, cancellation and messages."""

from __future__ import annotations

import contextlib
import html
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from conjure.app.service import CancelledError, Service
from conjure.app.visitors import Visitors
from conjure.diffusion.jobs import ProgressCallback
from conjure.errors import InputError


def build_settings(service: Service) -> list[Any]:
    """Build the controls of the model, the samples, the steps and the seed."""
    limits = service.limits
    samples, steps = limits.default_sampling
    with gr.Accordion("Settings", open=False), gr.Row():
        return [
            gr.Dropdown(list(service.labels), value=next(iter(service.labels)), label="Model"),
            gr.Slider(1, max(2, limits.samples), samples, step=1, label="Samples k"),
            gr.Slider(1, max(2, limits.steps), steps, step=1, label="Steps T"),
            gr.Number(0, precision=0, minimum=0, label="Seed"),
        ]


def cancel_with(visitors: Visitors) -> Callable[..., None]:
    """Return an event handler that cancels all computations of the visitor."""

    def cancel(request: gr.Request) -> None:
        visitors.cancel(str(request.session_hash))

    return cancel


def progress_callback(raise_if_cancelled: Callable[[], None], progress: gr.Progress) -> ProgressCallback:
    """Return a callback that ends a cancelled computation and otherwise shows its progress."""

    def report(completed: int, total: int) -> None:
        raise_if_cancelled()
        progress((completed, total), desc="denoising", unit="steps")

    return report


@contextlib.contextmanager
def user_errors(service: Service) -> Iterator[None]:
    """Context manager that shows invalid input and cancellations to the visitor in one line.

    A message that contains a path of the operator is shown without it, and is written to standard error as it is.
    """
    try:
        yield
    except InputError as error:
        message = service.without_paths(str(error))
        if message != str(error):
            print(error, file=sys.stderr, flush=True)
        raise gr.Error(html.escape(message), print_exception=False, title="Request rejected") from error
    except CancelledError as error:
        raise gr.Error("The computation was cancelled.", print_exception=False, title="Stopped") from error
