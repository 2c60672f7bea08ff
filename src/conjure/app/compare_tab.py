"""The tab of the web app that compares two texts."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from conjure.app.controls import build_buttons, build_settings, computation, connect
from conjure.app.html import downloads, png_link
from conjure.app.limits import MAX_SEED
from conjure.app.service import EXAMPLES, Service
from conjure.app.visitors import Visitors

MAX_SEED_DIGITS = 11  # int() of a longer number from a link could take long
MAX_GUIDANCE_CHARS = 20

# The example, or the end of a long page, may be far below the result
SCROLL_TO_RESULT_JS = "() => document.querySelector('#go').scrollIntoView({behavior: 'smooth'})"

# A link to a comparison opens its result
COMPARE_LINK_JS = """() => {
  const query = new URLSearchParams(location.search);
  if (query.has("a") && query.has("b")) document.querySelector("#go").click();
}"""


def build_compare_tab(blocks: gr.Blocks, service: Service, visitors: Visitors) -> None:
    """Build the tab.

    Args:
        blocks: The app, whose address can contain the inputs.
        service: What the app computes.
        visitors: The visitors, whose requests are limited.
    """
    with gr.Row():
        # without max_length, which would truncate pasted text without a message: the service rejects texts that are too long
        first = gr.Textbox(EXAMPLES[0][0], label="First text", max_lines=5, min_width=240, elem_id="first")
        second = gr.Textbox(EXAMPLES[0][1], label="Second text", max_lines=5, min_width=240, elem_id="second")
    settings = build_settings(service)
    with gr.Accordion("Words", open=False), gr.Row():
        words = gr.Checkbox(False, label="Measure the effect of each word", elem_id="words-effects")
        replacements = gr.Textbox("", label="Replace words: old=new, one per line", lines=1, max_lines=5, elem_id="replacements")
    inputs = [first, second, *settings, words, replacements]
    buttons = build_buttons("Compare", "go")
    number = gr.HTML(elem_id="number")
    draw = gr.Button("Draw the figure (PNG)", size="sm", visible=False, elem_id="draw-figure")
    # A link, since browsers refuse downloads that a script starts some seconds after a click
    figure, grid, csv = gr.HTML(elem_id="figure"), gr.HTML(elem_id="grid"), gr.Textbox(visible=False)
    label = "Examples: click one to compare its texts"
    examples = gr.Examples([list(pair) for pair in EXAMPLES], [first, second], label=label, elem_id="examples")

    def compare(
        a: Any, b: Any, model: Any, samples: Any, steps: Any, seed: Any, guidance: Any, words: Any, replacements: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str, str, Any, str]]:  # fmt: skip
        with computation(service, visitors, request, progress) as (report, raise_if_cancelled):
            settings = (model, samples, steps, seed, guidance)
            for answer in service.compare(a, b, settings, words, replacements, report):
                raise_if_cancelled()
                # after the first answer, which only valid settings have; a program may send them as 20.0 or None
                numbers = {"samples": int(samples), "steps": int(steps), "seed": int(seed)}
                values = {"a": a, "b": b, "model": model, **numbers, "guidance": "" if guidance is None else guidance}
                values |= {"words": "1"} if words else {}
                values |= {"replace": replacements} if replacements else {}
                link = f'<p><a href="?{html.escape(urlencode(values))}">Link to this comparison</a></p>'
                head = answer.head + link
                if answer.csv:  # the complete answer: one line, so that the result is near the button
                    head = f'<div style="display:flex;flex-wrap:wrap;gap:0 1.5rem">{head}</div>'
                yield head, answer.body, answer.csv, gr.Button(visible=bool(answer.csv)), ""

    def draw_figure(
        a: Any, b: Any, model: Any, samples: Any, steps: Any, seed: Any, guidance: Any, words: Any, replacements: Any,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> str:  # fmt: skip
        with computation(service, visitors, request, progress) as (report, _):
            address = service.figure(a, b, (model, samples, steps, seed, guidance), words, replacements, report)
        return downloads(png_link("comparison", address))

    def read_link(request: gr.Request) -> list[Any]:
        """Return the values of the inputs that the address of the page contains, and defaults for all others."""
        query = request.query_params
        values: list[Any] = [query.get(name, text) for name, text in zip("ab", EXAMPLES[0], strict=True)]
        values.append(query["model"] if query.get("model") in service.labels else next(iter(service.labels)))
        limits = service.limits
        defaults, largest = (*limits.default_sampling, 0), (limits.samples, limits.steps, MAX_SEED)
        for name, default, maximum in zip(("samples", "steps", "seed"), defaults, largest, strict=True):
            value = query.get(name, "")
            is_valid = value.isascii() and value.isdecimal() and len(value) <= MAX_SEED_DIGITS
            values.append(min(int(value), maximum) if is_valid else default)
        guidance = query.get("guidance", "")
        values.append(guidance if len(guidance) <= MAX_GUIDANCE_CHARS else "")
        return [*values, query.get("words") == "1", query.get("replace", "")]

    read = blocks.load(read_link, None, inputs, queue=False, api_visibility="private")
    read.then(None, None, None, js=COMPARE_LINK_JS, api_visibility="private")
    by_example = examples.load_input_event.then(None, None, None, js=SCROLL_TO_RESULT_JS, api_visibility="private")
    connect(
        service, visitors, compare, inputs, [number, grid, csv, draw, figure], buttons, "compare",
        triggers=[first.submit, second.submit], previous_events=[by_example],
    )  # fmt: skip
    draw.click(
        draw_figure, inputs, figure, concurrency_id="model", concurrency_limit=service.limits.concurrency, preprocess=False,
        show_progress_on=number, api_name="figure",
    )  # fmt: skip
