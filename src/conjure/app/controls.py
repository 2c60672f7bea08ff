"""What the tabs of the web app have in common: controls of settings, buttons, progress, cancellation and messages."""

from __future__ import annotations

import contextlib
import html
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from conjure.app.jobs import CancelledError
from conjure.app.service import Service
from conjure.app.visitors import Visitors
from conjure.diffusion.jobs import ProgressCallback
from conjure.errors import InputError


def build_settings(service: Service) -> list[Any]:
    """Build the controls of the model, the samples, the steps, the seed and the guidance."""
    limits = service.limits
    samples, steps = limits.default_sampling
    with gr.Accordion("Settings", open=False), gr.Row():
        return [
            gr.Dropdown(list(service.labels), value=next(iter(service.labels)), label="Model"),
            gr.Slider(1, max(2, limits.samples), samples, step=1, label="Samples k"),
            gr.Slider(1, max(2, limits.steps), steps, step=1, label="Steps T"),
            gr.Number(0, precision=0, minimum=0, label="Seed"),
            # Not a field for numbers: those cannot be blank, Gradio fills them with 0
            gr.Textbox("", label="Guidance (blank: the model's default)", max_lines=1),
        ]


def build_buttons(label: str, elem_id: str) -> tuple[Any, Any]:
    """Build the button that starts a computation, and the one that stops it, which is visible while something runs.

    Args:
        label: The label of the first button.
        elem_id: Its identifier in the page.
    """
    with gr.Row():
        start = gr.Button(label, variant="primary", elem_id=elem_id)
        return start, gr.Button("Stop", visible=False, scale=0, min_width=96)


def connect(
    service: Service,
    visitors: Visitors,
    compute: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    buttons: tuple[Any, Any],
    api_name: str,
    triggers: Sequence[Any] = (),
    previous_events: Sequence[Any] = (),
) -> None:
    """Connect a computation with the buttons that start and stop it.

    A start removes the former result, so that it does not remain beside other inputs if the computation fails.

    Args:
        service: What the app computes.
        visitors: The visitors, whose computations can be cancelled.
        compute: The computation.
        inputs: The components of its arguments.
        outputs: The components of its result. The first one shows the progress.
        buttons: What `build_buttons` returned.
        api_name: The name of the computation for programs.
        triggers: Other events of components that start it.
        previous_events: Event listeners after which it starts.
    """
    go, stop = buttons
    quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

    def set_running(is_running: bool) -> list[Any]:
        return [gr.Button(interactive=not is_running), gr.Button(visible=is_running)]

    def start() -> list[Any]:
        cleared = [gr.Button(visible=False) if isinstance(output, gr.Button) else None for output in outputs]
        return [*cleared, *set_running(True)]

    def end() -> list[Any]:
        return set_running(False)

    cancel_all = cancel_with(visitors)

    def cancel(request: gr.Request) -> list[Any]:
        cancel_all(request)
        return set_running(False)

    start_options: dict[str, Any] = {"fn": start, "outputs": [*outputs, go, stop], **quick}
    starts = [gr.on([go.click, *triggers], **start_options)]
    starts += [event.then(**start_options) for event in previous_events]
    running = []
    for number, event in enumerate(starts):
        visible: dict[str, Any] = {"api_name": api_name} if number == 0 else {"api_visibility": "private"}
        computing = event.then(
            compute, inputs, outputs, concurrency_id="model", concurrency_limit=service.limits.concurrency,
            show_progress_on=outputs[0],
            preprocess=False,  # the service validates the values; messages of Gradio contain them in full
            **visible,
        )  # fmt: skip
        for ended in (computing.success, computing.failure):  # `then` does not follow some of the failures
            ended(end, None, [go, stop], **quick)
        running.append(computing)
    stop.click(cancel, None, [go, stop], cancels=running, **quick)


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
def computation(
    service: Service, visitors: Visitors, request: gr.Request, progress: gr.Progress
) -> Iterator[tuple[ProgressCallback, Callable[[], None]]]:
    """Context manager for a computation of a visitor, whose errors are shown by `user_errors`.

    Yields:
        A callback that shows the progress, and a function that raises `CancelledError` if the visitor has cancelled.
    """
    with user_errors(service), visitors.job(str(request.session_hash)) as raise_if_cancelled:
        yield progress_callback(raise_if_cancelled, progress), raise_if_cancelled


@contextlib.contextmanager
def user_errors(service: Service) -> Iterator[None]:
    """Context manager that shows invalid input and cancellations to the visitor in one line.

    A message that contains a path of the operator is shown without it, and is written to standard error as it is.
    """
    try:
        yield
    except InputError as error:
        message = service.public_message(error)
        if message != str(error):
            print(error, file=sys.stderr, flush=True)
        raise gr.Error(html.escape(message), print_exception=False, title="Request rejected") from error
    except CancelledError as error:
        raise gr.Error("The computation was cancelled.", print_exception=False, title="Stopped") from error
