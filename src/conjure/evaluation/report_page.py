"""The report of an evaluation as one HTML page without external files: figures and headlines first, then tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from conjure.evaluation.error_analysis import residuals
from conjure.evaluation.outlier_images import OutlierImages
from conjure.evaluation.report import TITLE, error_tables, format_interval, settings_line, summary_tables
from conjure.evaluation.report_notes import bibtex, glossary, methods
from conjure.evaluation.results import Evaluation, TaskResult
from conjure.evaluation.scatter import outliers, scatter_svg
from conjure.io.templating import render

FLOORS = {
    "encoder": "the text encoder alone",
    "partial": "the partial correlation, given the text encoder",
    "shuffled": "the process with shuffled texts",
}


def html_page(evaluation: Evaluation, images: OutlierImages | None = None) -> str:
    """Return the report as one HTML page.

    Args:
        evaluation: The results.
        images: Images of the pairs that differ most; None for none.
    """
    images = images or OutlierImages()
    summaries: dict[str, dict[str, Any]] = evaluation.summary()["tasks"]
    tables = summary_tables(evaluation, summaries)
    return render(
        "conjure.evaluation",
        "report.html",
        title=TITLE,
        settings=settings_line(evaluation),
        notes=evaluation.notes,
        tasks=[_task(summaries[name], result, images.by_task.get(name, {})) for name, result in evaluation.tasks.items()],
        images_note=images.note,
        tables=tables,
        glossary=glossary(tables, has_pairs=True),
        methods=methods(evaluation),
        bibtex=bibtex(evaluation),
        all_settings={key: _plain(value) for key, value in (evaluation.measure_dict() | evaluation.process).items()},
    )


def _task(summary: Mapping[str, Any], result: TaskResult, images: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    """Return what the template shows of a task."""
    floors = summary["floors"] or {}
    return {
        "title": summary["title"],
        "spearman": f"{summary['spearman']:.1f}",
        "interval": format_interval(summary["ci95"]),
        "pairs": len(result.pairs),
        "floors": [
            (label, f"{floor['spearman']:.1f}", format_interval(floor["ci95"]))
            for name, label in FLOORS.items()
            if (floor := floors.get(name)) is not None
        ],
        "scatter": Markup(scatter_svg(result.pairs, result.distances, result.config)),
        "outliers": _outliers(result, images),
        "tables": error_tables(summary, result),
    }


def _outliers(result: TaskResult, images: Mapping[int, tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the pairs with images, as the template shows them."""
    values, distances = residuals(result.distances, result.pairs.scores), result.distances.mean(1)
    return [
        {
            "label": label,
            "residual": f"{values[index]:+.0f}",
            "distance": f"{distances[index]:.4g}",
            "rating": f"{result.pairs.scores[index]:g}",
            "images": list(zip(result.pairs.texts[index], images[index], strict=True)),
        }
        for index, label in outliers(result.pairs, result.distances).items()
        if index in images
    ]


def _plain(value: Any) -> str:
    """Return a setting as a text; nested ones as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else str(value)
