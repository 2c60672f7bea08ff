"""The user interface of the web app, built with Gradio."""

from __future__ import annotations

import os
import threading
import warnings

from conjure.app.html import PAGE_JS
from conjure.app.service import EXAMPLES, Service
from conjure.app.thread_warnings import record_warning
from conjure.errors import InputError, TextTruncationWarning

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no telemetry
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")  # no copies of requests in the browser or on the Hugging Face Hub

try:
    import gradio as gr
    from starlette.middleware import Middleware

    from conjure.app.compare_tab import build_compare_tab
    from conjure.app.controls import cancel_with
    from conjure.app.drift_tab import build_drift_tab
    from conjure.app.matrix_tab import build_matrix_tab, build_nearest_tab
    from conjure.app.request_values import RequestValues
    from conjure.app.routes import RequestFilter
    from conjure.app.runs_tab import build_runs_tab
    from conjure.app.visitors import Visitors
except ImportError as error:
    raise InputError("the app needs the package gradio: pip install '.[app]' in a clone") from error

MAX_SESSIONS = 256  # whose values Gradio keeps in memory, although this app has no state

INTRODUCTION = """# Conjure
How similar are two texts for an image model? Conjure compares what the model predicts for each of them while it generates
images."""

DEFAULT_MODEL = " The model *default* is small: it generates simple drawings of common things, with 64x64 pixels."

EXPLANATION = """At each step from noise to an image, the model predicts the noise in the image. Conjure computes the squared
difference between the predictions for the two texts at the same noisy image, and averages it over the steps. The distance is the
sum for the trajectories of both texts.

- Equal texts have the distance 0. The number after ± is the standard error of the distance.
- *Similarity 0.93* means: closer than 93% of pairs of unrelated texts. It is shown for calibrated models and settings.

The method is described in [the paper](https://arxiv.org/abs/2410.16431)."""


def build(service: Service, visitors: Visitors) -> gr.Blocks:
    """Build the user interface of a service.

    Args:
        service: What the app computes.
        visitors: The visitors, whose requests are limited.
    """
    with gr.Blocks(title="Conjure", analytics_enabled=False) as blocks:
        gr.Markdown(INTRODUCTION + (DEFAULT_MODEL if next(iter(service.labels)) == "default" else ""))
        with gr.Accordion("How to read the numbers", open=False):
            gr.Markdown(EXPLANATION)
        with gr.Tab("Compare"):
            build_compare_tab(blocks, service, visitors)
        with gr.Tab("Nearest"):
            build_nearest_tab(service, visitors)
        with gr.Tab("Matrix"):
            build_matrix_tab(service, visitors)
        with gr.Tab("Drift"):
            build_drift_tab(service, visitors)
        with gr.Tab("Runs"):
            build_runs_tab(blocks, service)
        blocks.unload(cancel_with(visitors))
    blocks.queue(max_size=service.limits.max_queue, api_open=False)  # no request bypasses the queue
    visitors.attach(blocks)
    return blocks


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
    blocks = build(service, visitors)
    values = RequestValues(blocks.fns, service.limits.max_total_chars, len(EXAMPLES))
    request_filter = Middleware(RequestFilter, visitors=visitors, values=values)
    fonts = ["system-ui", "sans-serif"]  # no font that a browser would have to download
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, root_path=root_path, auth=user, share=False, quiet=True, prevent_thread_lock=True,
            show_error=False, theme=gr.themes.Default(font=fonts, font_mono=["monospace"]), footer_links=[], max_file_size=0,
            ssr_mode=False, head=PAGE_JS, enable_monitoring=False, state_session_capacity=MAX_SESSIONS,
            app_kwargs={"middleware": [request_filter]},
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port {port or 'from 7860'}: {error}; give another --port") from error
    # Only now: the interpreter aborts if it ends, for example for an occupied port, while a thread computes
    threading.Thread(target=service.compute_examples, daemon=True).start()
    print(f"Conjure is running at {url}", flush=True)
    if wait:
        threading.Event().wait()
    return url
