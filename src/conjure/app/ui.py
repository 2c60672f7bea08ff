"""The user interface of the web app, built with Gradio."""

from __future__ import annotations

import html
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from conjure.app.html import NO_RUNS_HTML, RESIZE_IFRAME_JS, iframe
from conjure.app.limits import MAX_SEED
from conjure.app.service import EXAMPLES, Service
from conjure.app.thread_warnings import record_warning
from conjure.errors import InputError, TextTruncationWarning

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no telemetry
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")  # no copies of requests in the browser or on the Hugging Face Hub

try:
    import gradio as gr
    from starlette.middleware import Middleware

    from conjure.app.controls import build_settings, cancel_with, progress_callback, user_errors
    from conjure.app.drift_tab import build_drift_tab
    from conjure.app.routes import RequestFilter
    from conjure.app.visitors import Visitors
except ImportError as error:
    raise InputError("the app needs the package gradio: pip install '.[app]' in a clone") from error

MATRIX_EXAMPLE = "puppy\npoodle\ndalmatian\npug\nwhale\nshark\ndolphin\nsea lion"
MAX_SEED_DIGITS = 11  # int() of a longer number from a link could take long


def build(service: Service, visitors: Visitors) -> gr.Blocks:
    """Build the user interface of a service.

    Args:
        service: What the app computes.
        visitors: The visitors, whose requests are limited.
    """
    with gr.Blocks(title="Conjure", analytics_enabled=False) as blocks:
        gr.Markdown("# Conjure\nThe similarity of texts, measured by the predictions of a diffusion model.")
        with gr.Tab("Compare"):
            _build_compare_tab(blocks, service, visitors)
        with gr.Tab("Matrix"):
            _build_matrix_tab(service, visitors)
        with gr.Tab("Drift"):
            build_drift_tab(service, visitors)
        with gr.Tab("Runs"):
            _build_runs_tab(blocks, service)
        blocks.unload(cancel_with(visitors))
    blocks.queue(max_size=service.limits.max_queue, api_open=False)  # no request bypasses the queue
    visitors.attach(blocks)
    return blocks


def _build_compare_tab(blocks: gr.Blocks, service: Service, visitors: Visitors) -> None:
    limits = service.limits
    with gr.Row():
        # without max_length, which would truncate pasted text without a message: the service rejects texts that are too long
        first = gr.Textbox(EXAMPLES[0][0], label="First text", max_lines=5, min_width=240, elem_id="first")
        second = gr.Textbox(EXAMPLES[0][1], label="Second text", max_lines=5, min_width=240, elem_id="second")
    inputs = [first, second, *build_settings(service)]
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="go")
        stop = gr.Button("Stop", elem_id="stop")
    label = "Examples: click one to compare its texts"
    examples = gr.Examples([list(pair) for pair in EXAMPLES], [first, second], label=label, elem_id="examples")
    number, grid = gr.HTML(elem_id="number"), gr.HTML(elem_id="grid")

    def compare(
        a: Any, b: Any, model: Any, samples: Any, steps: Any, seed: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        settings = {"a": a, "b": b, "model": model, "samples": samples, "steps": steps, "seed": seed}
        with user_errors(service), visitors.job(str(request.session_hash)) as raise_if_cancelled:
            report = progress_callback(raise_if_cancelled, progress)
            for answer in service.compare(a, b, model, samples, steps, seed, report):
                raise_if_cancelled()
                # after the first answer, which only valid settings have
                link = f'<p><a href="?{html.escape(urlencode(settings))}">Link to these settings</a></p>'
                yield answer.head + link, answer.body

    def read_link(request: gr.Request) -> list[Any]:
        """Return the values of the inputs that the address of the page contains, and defaults for all others."""
        query = request.query_params
        values: list[Any] = [query.get(name, text) for name, text in zip("ab", EXAMPLES[0], strict=True)]
        values.append(query["model"] if query.get("model") in service.labels else next(iter(service.labels)))
        defaults, largest = (*limits.default_sampling, 0), (limits.samples, limits.steps, MAX_SEED)
        for name, default, maximum in zip(("samples", "steps", "seed"), defaults, largest, strict=True):
            value = query.get(name, "")
            is_valid = value.isascii() and value.isdecimal() and len(value) <= MAX_SEED_DIGITS
            values.append(min(int(value), maximum) if is_valid else default)
        return values

    options: dict[str, Any] = {
        "fn": compare, "inputs": inputs, "outputs": [number, grid], "concurrency_id": "model",
        "concurrency_limit": limits.concurrency, "show_progress": "minimal",
        "preprocess": False,  # the service validates the values; messages of Gradio contain them in full
    }  # fmt: skip
    by_button = gr.on([go.click, first.submit, second.submit], api_name="compare", **options)
    by_example = examples.load_input_event.then(api_visibility="private", **options)
    stop.click(cancel_with(visitors), cancels=[by_button, by_example], queue=False, api_visibility="private")
    blocks.load(read_link, None, inputs, queue=False, api_visibility="private")


def _build_matrix_tab(service: Service, visitors: Visitors) -> None:
    limits = service.limits
    label = f"Texts, one per line, at most {limits.max_texts}"
    words = gr.Textbox(MATRIX_EXAMPLE, label=label, lines=8, elem_id="words")
    inputs = [words, *build_settings(service)]
    with gr.Row():
        draw = gr.Button("Compare all pairs", variant="primary", elem_id="draw")
        stop = gr.Button("Stop")
    heat = gr.HTML(elem_id="heat")
    table = gr.Textbox(label="Distances as comma-separated values", buttons=["copy"], visible=False, elem_id="csv")

    def compare(
        lines: Any, model: Any, samples: Any, steps: Any, seed: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, Any]:  # fmt: skip
        with user_errors(service), visitors.job(str(request.session_hash)) as raise_if_cancelled:
            answer = service.matrix(lines, model, samples, steps, seed, progress_callback(raise_if_cancelled, progress))
        return answer.head + answer.body, gr.Textbox(value=answer.csv, visible=True)

    limit = limits.concurrency
    drawing = draw.click(
        compare, inputs, [heat, table], concurrency_id="model", concurrency_limit=limit, api_name="matrix", preprocess=False,
    )  # fmt: skip
    stop.click(cancel_with(visitors), cancels=drawing, queue=False, api_visibility="private")


def _build_runs_tab(blocks: gr.Blocks, service: Service) -> None:
    run = gr.Dropdown(service.finished_runs(), label="Finished runs of conjure bench", value=None, elem_id="run")
    report = gr.HTML(elem_id="report")

    def show_report(name: Any) -> str:
        if not name:
            return "" if service.finished_runs() else NO_RUNS_HTML
        try:
            return iframe(service.report(name))
        except InputError as error:  # as the result: after an exception, the report of another run would remain
            return f"<p>{html.escape(service.without_paths(str(error)))}</p>"

    def refresh() -> tuple[Any, str]:
        return gr.Dropdown(choices=service.finished_runs(), value=None), show_report(None)

    run.change(show_report, run, report, api_name="run", preprocess=False)
    blocks.load(refresh, None, [run, report], queue=False, api_visibility="private")


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    user: tuple[str, str] | None = None,
    root_path: str | None = None,
    wait: bool = True,
) -> str:
    """Serve the app.

    Args:
        service: What the app computes.
        host: The address to listen on; by default only this machine can connect.
        port: The port to listen on; None for the first free one from 7860.
        user: A user name and a password that visitors must enter.
        root_path: The path, or the URL, under which a reverse proxy offers the app. The proxy removes the path from addresses.
        wait: Whether to return only when the app is stopped; otherwise as soon as it is running.

    Returns:
        The URL of the app.

    Raises:
        InputError: The app cannot listen on this address and port.
    """
    warnings.simplefilter("always", TextTruncationWarning)
    warnings.showwarning = record_warning
    visitors = Visitors(service.limits.max_jobs_per_visitor)
    request_filter = Middleware(RequestFilter, visitors=visitors, max_chars=service.limits.max_total_chars)
    fonts = ["system-ui", "sans-serif"]  # no font that a browser would have to download
    try:
        _, url, _ = build(service, visitors).launch(
            server_name=host, server_port=port, root_path=root_path, auth=user, share=False, quiet=True, prevent_thread_lock=True,
            show_error=False, theme=gr.themes.Default(font=fonts, font_mono=["monospace"]), footer_links=[], max_file_size=0,
            ssr_mode=False, head=RESIZE_IFRAME_JS, enable_monitoring=False, app_kwargs={"middleware": [request_filter]},
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port {port or 'from 7860'}: {error}; give another --port") from error
    # Only now: the interpreter aborts if it ends, for example for an occupied port, while a thread computes
    threading.Thread(target=service.compute_examples, daemon=True).start()
    print(f"Conjure is running at {url}", flush=True)
    if wait:
        threading.Event().wait()
    return url
