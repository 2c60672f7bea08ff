"""Documents of tables and images, in Markdown and as one HTML page without external files. All texts are escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from conjure.io.formatting import pluralize
from conjure.io.templating import render
from conjure.io.text import printable

_NUMBER = r"[-+]?\d[\d.,]*(e[-+]?\d+)?%?"
# Such as 3, 2.5 ± 0.1, 1 to 3, 81.2 (90.1), 2.5 ± 0.1 (2.3 to 2.7), or nothing
NUMBERS = re.compile(rf"({_NUMBER}( (±|to) {_NUMBER})?( \({_NUMBER}( to {_NUMBER})?\))?)?")
MAX_NOTEBOOK_ROWS = 20
NUMBER_CLASS = Markup(' class="number"')


def data_uri(content: bytes, file_format: str, kind: str = "image") -> str:
    """Return the bytes of an image or another file as a data URI, so that a page needs no other file.

    Args:
        content: The bytes of the file.
        file_format: The subtype of its MIME type, such as `png`.
        kind: Its MIME type.
    """
    return f"data:{kind}/{file_format};base64,{base64.b64encode(content).decode()}"


def escape_html(text: str) -> str:
    """Return `text` such that an HTML page shows it literally, with a space for each unprintable character."""
    return html.escape(printable(text))


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the row.

    Attributes:
        title: The heading above the table.
        columns: The heads of the columns.
        rows: One sequence of cells per row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def without_empty_columns(self) -> Table:
        """Return the table without the columns whose cells are all empty. A table without rows keeps its columns."""
        shown = [i for i in range(len(self.columns)) if not self.rows or any(row[i] for row in self.rows)]
        return Table(self.title, [self.columns[i] for i in shown], [[row[i] for i in shown] for row in self.rows])

    def to_markdown(self) -> str:
        """Return the table in Markdown, without its title and without empty columns."""
        table = self.without_empty_columns()
        head = [f"| {' | '.join(map(_escape_markdown, table.columns))} |", "|" + "---|" * len(table.columns)]
        return "\n".join([*head, *(f"| {' | '.join(map(_escape_markdown, row))} |" for row in table.rows)])

    def to_html(self) -> Markup:
        """Return the table in HTML, without its title and without empty columns. Columns of numbers are aligned on the right."""
        table = self.without_empty_columns()
        is_numeric = [all(NUMBERS.fullmatch(row[i]) for row in table.rows) for i in range(len(table.columns))]
        classes = [NUMBER_CLASS if numeric and table.rows else "" for numeric in is_numeric]
        return Markup(render("conjure.io", "table.html", columns=table.columns, rows=table.rows, classes=classes))


def rows_to_html(description: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a result in HTML for a notebook: its description above a table of its first rows.

    Args:
        description: The text above the table. Its line ends are kept.
        rows: The rows of its data frame: values by column.
    """
    columns = list(rows[0]) if rows else []
    table = Table("", columns, [[_format_cell(row[column]) for column in columns] for row in rows[:MAX_NOTEBOOK_ROWS]])
    more = len(rows) - MAX_NOTEBOOK_ROWS
    note = f"<p>and {pluralize(more, 'more row')}; all: <code>to_pandas()</code></p>" if more > 0 else ""
    return f"<p>{'<br>'.join(escape_html(line.strip()) for line in description.splitlines())}</p>{table.to_html()}{note}"


def _format_cell(value: Any) -> str:
    """Return a value of a data frame as a text: numbers with four significant digits, unknown ones as nothing."""
    if value is None or value != value:  # not a number
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Document:
    """A report: title, headline, settings, tables, a note on them, and images.

    Attributes:
        title: The title.
        settings: What was run, one line per entry.
        tables: The tables, in order.
        note: The text below the tables.
        images: PNG files by their titles. The Markdown document omits them.
        glossary: The explanations of terms, by term. The Markdown document omits them.
        headline: The result in one sentence.
    """

    title: str
    settings: Sequence[str]
    tables: Sequence[Table]
    note: str
    images: Mapping[str, bytes] = field(default_factory=dict)
    glossary: Mapping[str, str] = field(default_factory=dict)
    headline: str = ""

    def to_markdown(self) -> str:
        """Return the document in Markdown."""
        lines = [f"# {_escape_markdown(self.title)}", ""]
        for line in filter(None, (self.headline, *self.settings)):
            lines += [_escape_markdown(line), ""]
        for table in self.tables:
            lines += [f"## {_escape_markdown(table.title)}", "", table.to_markdown(), ""]
        return "\n".join([*lines, self.note, ""])

    def to_html(self) -> str:
        """Return the document as one HTML page."""
        images = [(title, data_uri(image, "png")) for title, image in self.images.items()]
        return render("conjure.io", "document.html", title=self.title, document=self, images=images)


def _escape_markdown(cell: str) -> str:
    for mark in "\\`*_[]<>|":
        cell = cell.replace(mark, "\\" + mark)
    return " ".join(printable(cell).split())
