"""The tab of the web app that compares a process with one of other settings on the same texts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from conjure.app.controls import build_settings, cancel_with, progress_callback, user_errors
from conjure.app.drift import DTYPES
from conjure.app.service import Service
from conjure.app.visitors import Visitors

NUM_EXAMPLES = 8  # texts
GUIDANCE = 5.0  # of process B, before a visitor changes it
INTRODUCTION = (
    "Process A is the model with the settings below. Process B is the same model with other settings: fields that are blank are "
    "those of A. Both denoise every text from the same noise. How much do they differ, and for which texts?"
)


def build_drift_tab(service: Service, visitors: Visitors) -> None:
    """Build the tab.

    Args:
        service: What the app computes.
        visitors: The visitors, whose requests are limited.
    """
    limits = service.limits
    gr.Markdown(INTRODUCTION)
    label = f"Texts, one per line, at most {limits.max_texts}; without texts: a sample of the built-in texts"
    sample = "\n".join(limits.built_in_sample(NUM_EXAMPLES))
    texts = gr.Textbox(sample, label=label, lines=8, elem_id="drift-texts")
    with gr.Row():
        other = [
            # Not fields for numbers: those cannot be blank, Gradio fills them with 0
            gr.Textbox(f"{GUIDANCE:g}", label="Guidance of B", elem_id="drift-guidance"),
            gr.Textbox("", label="Steps of B", elem_id="drift-steps"),
            gr.Dropdown(["", *DTYPES], value="", label="Data type of B"),
            gr.Textbox("", label="Negative prompt of B", elem_id="drift-negative"),
        ]
    inputs = [texts, *other, *build_settings(service)]
    with gr.Row():
        go = gr.Button("Compare the processes", variant="primary", elem_id="drift-go")
        stop = gr.Button("Stop")
    head, body = gr.HTML(elem_id="drift-mean"), gr.HTML(elem_id="drift-result")
    table = gr.Textbox(label="Comma-separated values", buttons=["copy"], visible=False, elem_id="drift-csv")

    def compare(
        lines: Any, guidance: Any, other_steps: Any, dtype: Any, negative_prompt: Any,
        model: Any, samples: Any, steps: Any, seed: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, Any]:  # fmt: skip
        with user_errors(service), visitors.job(str(request.session_hash)) as raise_if_cancelled:
            answer = service.drift(
                lines, guidance, other_steps, dtype, negative_prompt, model, samples, steps, seed,
                progress_callback(raise_if_cancelled, progress),
            )  # fmt: skip
        return answer.head, answer.body, gr.Textbox(value=answer.csv, visible=True)

    limit = limits.concurrency
    comparing = go.click(
        compare, inputs, [head, body, table], concurrency_id="model", concurrency_limit=limit, api_name="drift", preprocess=False,
    )  # fmt: skip
    stop.click(cancel_with(visitors), cancels=comparing, queue=False, api_visibility="private")
