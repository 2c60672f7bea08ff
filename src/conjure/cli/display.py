"""Results of the commands as text for the terminal. Numbers end at the second digit of their standard error."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

import conjure
from conjure.cli.console import escape, output_console
from conjure.diffusion.load_options import describe_changes
from conjure.divergence.reference_scale import UNCALIBRATED
from conjure.engine.store_maintenance import ProcessSummary
from conjure.explanation.attribution import Attribution
from conjure.io.formatting import format_interval, format_timesteps, format_value, pluralize
from conjure.io.text import shorten
from conjure.similarity.matrix_analysis import Separation

COLUMN_GAP = 2
MAX_TEXT = 300  # characters of a text in a table


def print_estimate(estimate: conjure.Estimate, attribution: Attribution | None) -> None:
    """Print a distance with both directions, its largest step, the effects of words, and the settings."""
    console = output_console(soft_wrap=True)
    console.print(f"[bold]{escape(str(estimate))}[/]  {estimate.divergence}, {estimate.unit}")
    if estimate.similarity is not None:
        console.print(f"  {estimate.similarity.sentence}")
    for value, text in estimate.directions:
        console.print(f"  {format_value(value, estimate.stderr):>8}  along the trajectory of “{escape(shorten(text))}”")
    low, high = estimate.asymmetry_ci95
    if len(estimate.directions) == 2 and (low > 0 or high < 0):
        asymmetry = format_value(estimate.asymmetry, (high - low) / 2, sign="+")
        interval = format_interval((low, high), sign="+")
        console.print(f"  {asymmetry:>8}  difference of the two directions (95% CI: {interval})")
    largest = max(range(len(estimate.per_step)), key=estimate.per_step.__getitem__)
    timestep = format_timesteps(estimate.timesteps)[largest]
    where = f"largest difference at t = {timestep}" if estimate.per_step[largest] else "no difference"
    settings = estimate.process
    console.print(f"  {_sampling(len(estimate.samples), settings['steps'])}; {where}")
    if attribution is not None:
        console.print("  changes of the divergence along the trajectory of the other text:")
        for effect in attribution.effects:
            console.print(f"  {effect!s:>18}  {escape(effect.label)} in “{escape(shorten(effect.text))}”")
    guidance = "" if settings["guidance"] is None else f", guidance {settings['guidance']:g}"
    changes = "".join(f", {escape(change)}" for change in describe_changes(settings))
    console.print(
        f"  [dim]model {escape(settings['model'])}, {settings['scheduler']}{guidance}{changes}, seed {estimate.seed}[/]"
    )
    if estimate.similarity is None:
        console.print(f"  [dim]{UNCALIBRATED}[/]")
    for note in estimate.notes:
        console.print(f"  note: {note}")


def print_matrix(matrix: conjure.Matrix, separation: Separation | None, similarity: bool = False) -> None:
    """Print distances with their errors, the dendrogram, the settings, and the separation of groups.

    Args:
        matrix: The matrix.
        separation: The separation of groups, if there are groups.
        similarity: Print similarities instead of distances.
    """
    console = output_console()
    labels = [""] * len(matrix.order)
    for position, i in enumerate(matrix.order, 1):
        labels[i] = f"{position} {matrix.texts[i]}"
    _print_entries(console, matrix, labels, similarity)
    _print_dendrogram(console, matrix, labels)
    changes = "".join(f", {escape(change)}" for change in describe_changes(matrix.process))
    settings = f"{_sampling(matrix.samples, matrix.process['steps'])}, model {escape(matrix.process['model'])}{changes}"
    note = f"{matrix.divergence}, {matrix.unit}; {settings}; numbers in the tree: mean distance at which clusters merge"
    console.print(f"[dim]{note}[/]", soft_wrap=True)
    for line in matrix.notes:
        console.print(f"note: {line}", soft_wrap=True)
    if separation is not None:
        console.print(f"mean silhouette of the groups: {separation}", soft_wrap=True)


def _print_entries(console: Console, matrix: conjure.Matrix, labels: Sequence[str], similarity: bool) -> None:
    """Print distances or similarities, similar texts next to each other, in blocks of columns as wide as the terminal."""
    order = matrix.order
    label_width = min(max(map(cell_len, labels)), console.width // 3)
    column_width = max(len(matrix.format_entry(i, j, similarity=similarity)) for i in order for j in order) + COLUMN_GAP
    columns = max(1, (console.width - label_width) // column_width)
    for start in range(0, len(order), columns):
        block = range(start, min(start + columns, len(order)))
        table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0))
        table.add_column("", no_wrap=True, max_width=label_width)
        for position in block:
            table.add_column(str(position + 1), justify="right", no_wrap=True)
        for i in order:
            entries = (matrix.format_entry(i, order[position], similarity=similarity) for position in block)
            table.add_row(escape(labels[i]), *entries)
        console.print(table)
        console.print()


def _print_dendrogram(console: Console, matrix: conjure.Matrix, labels: Sequence[str]) -> None:
    """Print the tree of clusters, with the mean distance at which two clusters merge."""
    nodes = [Tree(escape(shorten(label, MAX_TEXT))) for label in labels]
    for first, second, height, _ in matrix.linkage:
        merged = Tree(f"[dim]{format_value(height, matrix.stderr.max())}[/]")
        merged.children += nodes[int(first)], nodes[int(second)]
        nodes.append(merged)
    console.print(nodes[-1])


def print_neighbours(neighbours: conjure.Neighbours) -> None:
    """Print the ranked candidates, and whether the nearest ones are certain."""
    table = Table(show_edge=False, pad_edge=False)
    has_similarity = neighbours.scale is not None
    for heading in ("", "distance", "95% CI", *(("similarity",) if has_similarity else ()), "samples"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for neighbour in neighbours.ranked:
        distance = format_value(neighbour.distance, neighbour.stderr)
        interval = format_interval(neighbour.ci95, neighbour.stderr)
        style = "dim" if neighbour.eliminated else ""
        similarity = (str(neighbour.similarity),) if has_similarity else ()
        text = escape(shorten(neighbour.text, MAX_TEXT))
        table.add_row(text, distance, interval, *similarity, str(neighbour.samples), style=style)
    console = output_console()
    console.print(table)
    certain = f"certain at {neighbours.confidence:.0%}"
    certainty = certain if neighbours.is_certain else f"not {certain}: increase --samples"
    nearest = "nearest text" if neighbours.top == 1 else f"{neighbours.top} nearest texts"
    trajectories = f"{neighbours.trajectories_run} of {neighbours.trajectories_max} trajectories run"
    console.print(f"[dim]{neighbours.divergence}, {neighbours.unit}; {nearest} {certainty}; {trajectories}[/]", soft_wrap=True)
    if not has_similarity:
        console.print(f"[dim]{UNCALIBRATED}[/]", soft_wrap=True)


def print_store(summaries: Sequence[ProcessSummary]) -> None:
    """Print what a store contains: one row per process or baseline."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("fingerprint", "process or baseline"):
        table.add_column(heading, overflow="fold")
    for heading in ("trajectories", "evaluations", "pairs", "MB"):
        table.add_column(heading, justify="right", overflow="fold")
    for summary in summaries:
        settings = summary.settings
        parts = [("", settings.get("model") or settings.get("name")), ("T ", settings.get("steps")),
                 ("guidance ", settings.get("guidance")), ("", settings.get("scheduler"))]  # fmt: skip
        described = [f"{name}{value}" for name, value in parts if value is not None]
        description = ", ".join(described + describe_changes(settings))
        counts = (summary.trajectories, summary.evaluations, summary.pairs)
        row = (
            escape(summary.fingerprint[:12]),
            escape(description),
            *(f"{count:,}" for count in counts),
            f"{summary.size / 1e6:.1f}",
        )
        table.add_row(*row)
    output_console().print(table)


def _sampling(samples: int, steps: int) -> str:
    return f"{pluralize(samples, 'sample')}, {pluralize(steps, 'step')}"
