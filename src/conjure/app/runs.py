"""The finished runs that visitors of the web app can view and compare."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import escape

from conjure.app.labels import file_label, replace_names
from conjure.app.limits import visitor_values
from conjure.errors import InputError
from conjure.evaluation.comparison import diff
from conjure.io.files import read_json
from conjure.io.text import shorten


@dataclass(frozen=True)
class FinishedRuns:
    """The runs in the subfolders of a folder.

    Attributes:
        folder: The folder; None for no runs.
    """

    folder: Path | None

    def names(self) -> list[str]:
        """Return the names of the runs with a report. Links to folders elsewhere and names that are no Unicode are left out."""
        if self.folder is None:
            return []
        try:
            return sorted(path.name for path in self.folder.iterdir() if self._has_report(path))
        except OSError:  # the folder was removed, or its permissions were changed, while the app runs
            return []

    def _has_report(self, run: Path) -> bool:
        assert self.folder is not None
        report = run / "report.html"
        try:
            run.name.encode()
            return report.is_file() and report.resolve().parent.parent == self.folder.resolve()
        except (OSError, RuntimeError, UnicodeError):  # no permission, a loop of links, bytes that are no UTF-8
            return False

    def table(self) -> list[list[Any]]:
        """Return one row per run and dataset: run, correlation x100, its interval, dataset, pairs, model and date.

        Runs without a summary, and with one that cannot be read, are left out.
        """
        rows = []
        for name in self.names():
            with contextlib.suppress(InputError, KeyError, TypeError, ValueError, AttributeError, OSError):
                summary = self._summary(name)
                date = datetime.fromtimestamp(self._path(name, "summary.json").stat().st_mtime, UTC)
                model = file_label(str(summary["process"]["model"]))
                for task in summary["tasks"].values():
                    spearman, (low, high) = round(task["spearman"], 1), task["ci95"]
                    interval = f"{low:.1f} to {high:.1f}"
                    rows.append([name, spearman, interval, str(task["title"]), task["pairs"], model, f"{date:%Y-%m-%d %H:%M}"])
        return rows

    def report(self, name: object) -> str:
        """Return the HTML report of a run. It contains the names of models and other files, but not their paths.

        Raises:
            InputError: `name` is not one of `names`, or the report or the summary of the run cannot be read.
        """
        name = self._validated(name)
        try:
            page = self._path(name, "report.html").read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"the report of the run {name!r} cannot be read; run conjure bench again") from error
        return self._without_paths(page, [name])

    def difference(self, first: object, second: object) -> str:
        """Return the HTML page of `conjure diff` for two runs, without paths and images.

        Raises:
            InputError: One of them is not one of `names`, cannot be read, or has no task in common with the other.
        """
        names = [self._validated(first), self._validated(second)]
        if names[0] == names[1]:
            raise InputError(f"both runs are {names[0]!r}; choose two runs")
        page = diff(self._path(names[0]), self._path(names[1])).document().to_html()
        return self._without_paths(page, names)

    @visitor_values()
    def _validated(self, name: object) -> str:
        names = self.names()
        if not isinstance(name, str) or name not in names:
            raise InputError(f"there is no run {shorten(str(name))!r}; allowed are {', '.join(names) or 'none yet'}")
        return name

    def _path(self, name: str, file: str = "") -> Path:
        assert self.folder is not None
        return self.folder / name / file

    def _summary(self, name: str) -> dict[str, Any]:
        """Return the summary of a run, and an empty one if it has none."""
        path = self._path(name, "summary.json")
        return read_json(path, "its summary.json", allow_nan=True) if path.exists() else {}

    def _without_paths(self, page: str, names: Sequence[str]) -> str:
        """Return a page about runs, in which the paths of runs, models, LoRAs and textual inversions are replaced by names."""
        replacements: dict[str, str] = {}
        for name in names:
            try:
                process = self._summary(name).get("process", {"model": ""})
                changes = [*process.get("lora", ()), *process.get("textual_inversion", ())]
                files = [str(process["model"]), *(str(change["name"]) for change in changes)]
            except (InputError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"the summary of the run {name!r} cannot be read; run conjure bench again") from error
            labels = {str(self._path(name)): name} | {file: file_label(file) for file in files if file}
            for path, label in labels.items():
                if path != label:
                    forms = (str(escape(path)), html.escape(path), path)  # as this version and earlier ones escape it
                    replacements |= dict.fromkeys(forms, str(escape(label)))
        return replace_names(page, replacements)
