"""The finished runs that visitors of the web app can view."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from conjure.errors import InputError
from conjure.io.files import read_json


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

    def report(self, name: object) -> str:
        """Return the HTML report of a run. It contains the name of a model, but not the path of its folder.

        Raises:
            InputError: `name` is not one of `names`, or the report or the summary of the run cannot be read.
        """
        names = self.names()
        if self.folder is None or not isinstance(name, str) or name not in names:
            raise InputError(f"there is no run {str(name)[:80]!r}; allowed are {', '.join(names) or 'none yet'}")
        try:
            page = (self.folder / name / "report.html").read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"the report of the run {name!r} cannot be read; run conjure bench again") from error
        model = self._model(name)
        if Path(model).is_absolute() or Path(model).is_dir():
            for path in (str(escape(model)), html.escape(model), model):  # as this version and earlier ones escape it
                page = page.replace(path, str(escape(Path(model).name)))
        return page

    def _model(self, name: str) -> str:
        """Return the model of a run as its summary names it, and an empty text if the run has no summary."""
        assert self.folder is not None
        path = self.folder / name / "summary.json"
        if not path.exists():
            return ""
        try:
            return str(read_json(path, "its summary.json")["process"]["model"])
        except (InputError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"the summary of the run {name!r} cannot be read; run conjure bench again") from error
