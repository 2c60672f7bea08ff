"""The divergences between two processes on some texts, with a summary, tables and figures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjure.diffusion.load_options import summarize_settings
from conjure.diffusion.media import KIND_NAMES
from conjure.divergence.estimates import Estimate
from conjure.errors import InputError
from conjure.explanation.figure import comparison_figure
from conjure.io.csv_files import csv_text
from conjure.io.documents import Document, rows_to_html
from conjure.io.files import check_output, import_pandas, import_pyarrow, parquet_bytes, write_output
from conjure.io.formatting import pluralize
from conjure.io.numbers import none_if_not_finite
from conjure.io.text import quote_and_wrap, shorten
from conjure.plotting.charts import draw_points
from conjure.plotting.media import MediaKind
from conjure.plotting.output import FIGURE_SUFFIXES, figure_bytes
from conjure.process_drift.groups import GroupDrift
from conjure.process_drift.images import TextImages, final_images
from conjure.process_drift.report_text import SAMPLING_NOTE, column_terms, error_notes, glossary, shared_settings, verdict
from conjure.process_drift.statistics import Summary
from conjure.process_drift.tables import group_table, summary_table, texts_table
from conjure.process_drift.text_drift import TextDrift
from conjure.process_drift.validation import TABLE_SUFFIXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

MAX_PLOTTED = 20  # texts in a chart


@dataclass(frozen=True)
class Drift:
    """How far two processes differ on some texts.

    Attributes:
        texts: The texts with their divergences, from the largest to the smallest.
        summary: By name (`divergence`, `relative`, `nats`, `final`, `final_relative`) the distribution over texts. Names without
            a defined value are missing.
        noise: The divergence between each process and itself, computed in batches of another size, on the text where it is
            largest. Nothing is claimed below it.
        noise_nats: The same in nats; NaN where nats are undefined.
        unit: The unit of `divergence`, `forward` and `backward`.
        final_unit: The unit of `final`.
        labels: The names of the processes: the settings in which they differ.
        checks: By name, what was compared between the processes, with the outcome.
        seed: The seed of the noise.
        timesteps: The timesteps at which the processes are compared.
        snr: The signal-to-noise ratios at these timesteps.
        process_a: The settings of process A.
        process_b: The settings of process B.
        fingerprint_a: The fingerprint of process A.
        fingerprint_b: The fingerprint of process B.
        version: The version of Conjure.
        groups: The groups of texts, from the largest to the smallest mean; empty if the texts were not given in groups.
        images: The images of the texts that changed most and least.
        kind: What the processes generate.
    """

    texts: tuple[TextDrift, ...]
    summary: dict[str, Summary]
    noise: float
    noise_nats: float
    unit: str
    final_unit: str
    labels: tuple[str, str]
    checks: dict[str, str]
    seed: int
    timesteps: tuple[float, ...]
    snr: tuple[float, ...]
    process_a: dict[str, Any]
    process_b: dict[str, Any]
    fingerprint_a: str
    fingerprint_b: str
    version: str
    groups: tuple[GroupDrift, ...] = ()
    images: tuple[TextImages, ...] = field(default=(), repr=False)
    kind: MediaKind = "image"

    @property
    def samples(self) -> int:
        """The number of samples k."""
        return len(self.texts[0].samples)

    @property
    def only_sampling_differs(self) -> bool:
        """Whether no divergence is larger than the numerical noise, but the final latents differ."""
        is_within_noise = all(text.divergence.value <= self.noise for text in self.texts)
        return is_within_noise and self.summary["final"].mean.value > 0

    @property
    def verdict(self) -> str:
        """How much the processes differ on average, in one sentence."""
        return verdict(self.summary, self.unit)

    def __str__(self) -> str:
        first = self.texts[0]
        return (
            f"{self.labels[0]} against {self.labels[1]}: {pluralize(len(self.texts), 'text')}, mean divergence "
            f"{self.summary['divergence'].mean}, {self.unit}\n"
            f"  largest {first.divergence}: {quote_and_wrap(first.text, 60)}\n"
            f"  {pluralize(self.samples, 'sample')}, seed {self.seed}; {summarize_settings(self.process_a)}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is unknown."""
        names = ("unit", "final_unit", "labels", "checks", "samples", "seed", "timesteps", "snr", "process_a", "process_b",
                 "fingerprint_a", "fingerprint_b", "version")  # fmt: skip
        return {
            "texts": [text.to_dict() for text in self.texts],
            "summary": {name: summary.to_dict() for name, summary in self.summary.items()},
            "groups": [group.to_dict() for group in self.groups],
            "noise": self.noise,
            "noise_nats": none_if_not_finite(self.noise_nats),
            **{name: getattr(self, name) for name in names},
        }

    def to_csv(self, *, raw: bool = False) -> str:
        """Return one row per text as comma-separated values.

        Args:
            raw: Write texts unchanged. Otherwise a text that a spreadsheet would run as a formula gets an apostrophe before it.
        """
        rows = [text.to_row() for text in self.texts]
        return csv_text([list(rows[0]), *(list(row.values()) for row in rows)], raw=raw)

    def to_pandas(self) -> DataFrame:
        """Return one row per text as a pandas data frame.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame([text.to_row() for text in self.texts])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the largest divergences of texts with their 95% intervals, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        shown = self.texts[:MAX_PLOTTED]
        values = [(text.divergence.value, *text.divergence.ci95) for text in shown]
        return draw_points(ax, [f"“{text.text}”" for text in shown], values, f"divergence, {self.unit}")

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), [text.to_row() for text in self.texts])

    def save_table(self, path: str | Path) -> None:
        """Write the result to a .json file, or one row per text to a .csv or .parquet file.

        Raises:
            InputError: If the suffix is another one, the file cannot be written, or pyarrow is not installed for Parquet.
        """
        path = check_output(path, TABLE_SUFFIXES, "table")
        match path.suffix.lower():
            case ".parquet":
                pyarrow, _ = import_pyarrow()
                content = parquet_bytes(pyarrow.Table.from_pylist([text.to_row() for text in self.texts]))
            case ".csv":
                content = self.to_csv().encode()
            case _:
                content = json.dumps(self.to_dict(), default=str, allow_nan=False, indent=1).encode()
        write_output(path, content, make_folders=False)

    def document(self, max_rows: int | None = None, *, trajectories: bool = True) -> Document:
        """Return the tables and the figures of the result as a document.

        Args:
            max_rows: The largest number of rows in the table of texts; None for all.
            trajectories: Whether the trajectories of the texts that changed most and least are among the figures.
        """
        shown = self.texts if max_rows is None else self.texts[:max_rows]
        has_relative = "relative" in self.summary
        settings = [
            f"{self.labels[0]} against {self.labels[1]}; {shared_settings(self.process_a, self.process_b)}"
            f"{pluralize(self.samples, 'sample')}, seed {self.seed}; conjure {self.version}",
            "; ".join(f"{name}: {outcome}" for name, outcome in self.checks.items()),
        ]
        settings += [column_terms(self.kind)] if has_relative else []
        settings += [SAMPLING_NOTE] if self.only_sampling_differs else []
        tables = [texts_table(shown, self.unit, self.kind), summary_table(self.summary)]
        if self.groups:
            tables.insert(0, group_table(self.groups, None if has_relative else self.unit))
        images = {}
        if self.images:
            which = ": the texts with the largest and the smallest divergences" if len(self.images) < len(self.texts) else ""
            images[f"Final {KIND_NAMES[self.kind]}s from the same noise{which}"] = self._final_images("png")
        for image in self.images if trajectories else ():
            if image.trajectories is not None:
                images[f"Trajectories of “{image.text}”"] = figure_bytes(self.figure(image.text), "png")
        note = error_notes(self.texts, self.noise, len(shown))
        return Document("Drift", settings, tables, note, images, glossary(self.process_a, self.unit), self.verdict)

    def figure(self, text: str) -> Figure:
        """Return Figure 1 of Liu and Soatto (2026) for one text, with the two processes instead of two texts.

        Raises:
            InputError: If the text has no images of its trajectories.
        """
        images = next((image.trajectories for image in self.images if image.text == text), None)
        if images is None:
            raise InputError(
                f"the text {shorten(text)!r} has no images of trajectories; give conjure.drift a larger number of images, and "
                "processes with the same noise levels and the same autoencoder"
            )
        result = next(entry for entry in self.texts if entry.text == text)
        estimate = Estimate(
            distance=result.divergence.value,
            stderr=result.divergence.stderr,
            ci95=result.divergence.ci95,
            forward=result.forward.value,
            backward=result.backward.value,
            asymmetry=math.nan,
            asymmetry_ci95=(math.nan, math.nan),
            per_step=result.per_step,
            per_step_ci95=result.per_step_ci95,
            samples=result.samples,
            texts=self.labels,
            divergence="jeffreys",
            weighting="uniform",
            unit=self.unit,
            antithetic=False,
            seed=self.seed,
            timesteps=self.timesteps,
            snr=self.snr,
            process=self.process_a,
            fingerprint=self.fingerprint_a,
            version=self.version,
        )
        return comparison_figure(estimate, [images], None, title=f"{quote_and_wrap(text, 80)} under two processes")

    def save(self, path: str | Path) -> None:
        """Write the figure of the result.

        Args:
            path: A .png, .svg or .pdf file for the final images of the texts that changed most and least, or an .html file for a
                page that also has the tables and the trajectories of these texts.

        Raises:
            InputError: If the suffix is another one, the file cannot be written, or the result has no images for a figure.
        """
        path = check_output(path, FIGURE_SUFFIXES, "figure")
        file_format = path.suffix.lower().removeprefix(".")
        if not self.images and file_format != "html":
            raise InputError("the result has no images; give conjure.drift a number of images, or save an .html file")
        content = self.document().to_html().encode() if file_format == "html" else self._final_images(file_format)
        write_output(path, content, make_folders=False)

    def _final_images(self, file_format: str) -> bytes:
        values = {text.text: str(text.divergence) for text in self.texts}
        return final_images(self.images, [values[image.text] for image in self.images], self.labels, file_format)
