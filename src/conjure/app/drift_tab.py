"""The tab of the web app that compares a process with one of other settings on the same texts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from conjure.app.controls import build_buttons, build_settings, computation, connect
from conjure.app.drift import DTYPES
from conjure.app.service import Service
from conjure.app.visitors import Visitors

NUM_EXAMPLES = 8  # texts
GUIDANCE = 5.0  # of process B, before a visitor changes it
AS_A = "as A"
INTRODUCTION = (
    "What does another setting of the model change? Process A is the model as chosen under Settings. Process B is the same model "
    "with the settings in the four fields below the texts. A blank field keeps the value of A. Both generate images for every "
    "text from the same noise."
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
            gr.Textbox(f"{GUIDANCE:g}", label="Guidance of B", placeholder=AS_A, elem_id="drift-guidance"),
            gr.Textbox("", label="Steps of B", placeholder=AS_A, elem_id="drift-steps"),
            gr.Dropdown(["", *DTYPES], value="", label="Data type of B"),
            gr.Textbox("", label="Negative prompt of B", placeholder=AS_A, elem_id="drift-negative"),
        ]
    inputs = [texts, *other, *build_settings(service)]
    buttons = build_buttons("Compare the processes", "drift-go")
    head, body, csv = gr.HTML(elem_id="drift-head"), gr.HTML(elem_id="drift-result"), gr.Textbox(visible=False)

    def compare(
        lines: Any, guidance: Any, other_steps: Any, dtype: Any, negative_prompt: Any,
        model: Any, samples: Any, steps: Any, seed: Any, own_guidance: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, str]:  # fmt: skip
        with computation(service, visitors, request, progress) as (report, _):
            settings = (model, samples, steps, seed, own_guidance)
            answer = service.drift(lines, guidance, other_steps, dtype, negative_prompt, settings, report)
        return answer.head, answer.body, answer.csv

    connect(service, visitors, compare, inputs, [head, body, csv], buttons, "drift")
