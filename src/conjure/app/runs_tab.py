"""The tab of the web app that shows finished runs of `conjure bench`, and the difference between two of them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from conjure.app.html import NO_RUNS_HTML, iframe, side_by_side
from conjure.app.service import Service
from conjure.errors import InputError

COLUMNS = ("run", "Spearman x100", "95% CI", "dataset", "pairs", "model", "date (UTC)")  # the correlation first, for phones


def build_runs_tab(blocks: gr.Blocks, service: Service) -> None:
    """Build the tab.

    Args:
        blocks: The app, whose pages read the list of runs when they are opened.
        service: What the app computes.
    """
    gr.Markdown("Click a row to read the report of its run. Choose a second run to see the difference between both.")
    table = gr.Dataframe(
        headers=list(COLUMNS), interactive=False, elem_id="runs-table",
        datatype=["str", "number", "str", "str", "number", "str", "str"],
    )  # fmt: skip
    with gr.Row():
        run, other = gr.Dropdown(label="Run", elem_id="run"), gr.Dropdown(label="Compared with", elem_id="other-run")
    report = gr.HTML(elem_id="report")

    def page_or_message(page: Callable[..., str], *names: Any) -> str:
        try:
            return iframe(page(*names))
        except InputError as error:  # as the result: after an exception, the report of another run would remain
            return f"<p>{html.escape(service.public_message(error))}</p>"

    def show(name: Any, other_name: Any) -> Iterator[str]:
        if not name:
            yield "" if service.finished_runs() else NO_RUNS_HTML
        elif not other_name:
            yield page_or_message(service.report, name)
        else:
            reports = side_by_side([page_or_message(service.report, choice) for choice in (name, other_name)])
            yield reports  # at once: the difference takes some seconds
            yield page_or_message(service.difference, name, other_name) + reports

    def choose(event: gr.SelectData) -> str:
        return str(event.row_value[0])  # of the row as it is displayed, which may be sorted

    def refresh() -> tuple[Any, Any, Any, str]:
        choices = gr.Dropdown(choices=service.finished_runs(), value=None)
        return service.table_of_runs(), choices, choices, next(show(None, None))

    table.select(choose, None, run, api_visibility="private")
    gr.on([run.change, other.change], show, [run, other], report, api_name="run", preprocess=False)
    blocks.load(refresh, None, [table, run, other, report], queue=False, api_visibility="private")
