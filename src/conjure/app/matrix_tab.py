"""The tabs of the web app for lists of texts: the distances of all pairs, and the texts nearest to one text."""

from __future__ import annotations

from typing import Any

import gradio as gr

from conjure.app.controls import build_buttons, build_settings, computation, connect
from conjure.app.service import Service
from conjure.app.visitors import Visitors

MATRIX_EXAMPLE = "puppy\npoodle\ndalmatian\npug\nwhale\nshark\ndolphin\nsea lion"
QUERY_EXAMPLE = "a small dog"
CANDIDATES_EXAMPLE = "puppy\nkitten\nwolf\nhorse\nbicycle"


def build_matrix_tab(service: Service, visitors: Visitors) -> None:
    """Build the tab for the distances of all pairs.

    Args:
        service: What the app computes.
        visitors: The visitors, whose requests are limited.
    """
    gr.Markdown("The distance of every pair of texts, with similar texts beside each other.")
    label = f"Texts, one per line, at most {service.limits.max_texts}"
    words = gr.Textbox(MATRIX_EXAMPLE, label=label, lines=8, elem_id="words")
    inputs = [words, *build_settings(service)]
    buttons = build_buttons("Compare all pairs", "draw")
    head, heat, csv = gr.HTML(elem_id="matrix-head"), gr.HTML(elem_id="heat"), gr.Textbox(visible=False)

    def compare(
        lines: Any, model: Any, samples: Any, steps: Any, seed: Any, guidance: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, str]:  # fmt: skip
        with computation(service, visitors, request, progress) as (report, _):
            answer = service.matrix(lines, (model, samples, steps, seed, guidance), report)
        return answer.head, answer.body, answer.csv

    connect(service, visitors, compare, inputs, [head, heat, csv], buttons, "matrix")


def build_nearest_tab(service: Service, visitors: Visitors) -> None:
    """Build the tab that ranks texts. Arguments as in `build_matrix_tab`."""
    gr.Markdown("Which of these texts is nearest to one text, for the model?")
    text = gr.Textbox(QUERY_EXAMPLE, label="Text", max_lines=5, elem_id="query")
    label = f"Candidates, one per line, at most {service.limits.max_texts}"
    candidates = gr.Textbox(CANDIDATES_EXAMPLE, label=label, lines=6, elem_id="candidates")
    inputs = [text, candidates, *build_settings(service)]
    buttons = build_buttons("Rank", "rank")
    head, table, csv = gr.HTML(elem_id="nearest-head"), gr.HTML(elem_id="ranking"), gr.Textbox(visible=False)

    def rank(
        text: Any, lines: Any, model: Any, samples: Any, steps: Any, seed: Any, guidance: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, str]:  # fmt: skip
        with computation(service, visitors, request, progress) as (report, _):
            answer = service.nearest(text, lines, (model, samples, steps, seed, guidance), report)
        return answer.head, answer.body, answer.csv

    connect(service, visitors, rank, inputs, [head, table, csv], buttons, "nearest", triggers=[text.submit])
