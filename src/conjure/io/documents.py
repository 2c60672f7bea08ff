"""Documents of tables and images, in Markdown and as one HTML page without external files. All texts are escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conjure.io.text import printable


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

    def to_markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        head = [f"| {' | '.join(map(_escape_markdown, self.columns))} |", "|" + "---|" * len(self.columns)]
        return "\n".join([*head, *(f"| {' | '.join(map(_escape_markdown, row))} |" for row in self.rows)])

    def to_html(self) -> str:
        """Return the table in HTML, without its title."""
        head = "".join(f"<th>{escape_html(cell)}</th>" for cell in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><tr>{head}</tr>{body}</table>"


@dataclass(frozen=True)
class Document:
    """A report: title, settings, tables, a note on them, and images.

    Attributes:
        title: The title.
        settings: What was run, one line per entry.
        tables: The tables, in order.
        note: The text below the tables.
        images: PNG files by their titles. The Markdown document omits them.
    """

    title: str
    settings: Sequence[str]
    tables: Sequence[Table]
    note: str
    images: Mapping[str, bytes] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Return the document in Markdown."""
        lines = [f"# {_escape_markdown(self.title)}", ""]
        for line in self.settings:
            lines += [_escape_markdown(line), ""]
        for table in self.tables:
            lines += [f"## {_escape_markdown(table.title)}", "", table.to_markdown(), ""]
        return "\n".join([*lines, self.note, ""])

    def to_html(self) -> str:
        """Return the document as one HTML page."""
        parts = [f"<h2>{escape_html(table.title)}</h2><div>{table.to_html()}</div>" for table in self.tables]
        for title, image in self.images.items():
            source = data_uri(image, "png")
            parts.append(f'<h2>{escape_html(title)}</h2><img alt="{escape_html(title)}" src="{source}">')
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape_html(self.title)}</title>'
            "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}div{overflow-x:auto}"
            "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
            "td:first-child,th:first-child{text-align:left}img{max-width:100%;background:#fff}"
            "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
            f"<h1>{escape_html(self.title)}</h1>{''.join(f'<p>{escape_html(line)}</p>' for line in self.settings)}"
            f"{''.join(parts)}<p>{escape_html(self.note)}</p></html>\n"
        )


def _escape_markdown(cell: str) -> str:
    for mark in "\\`*_[]<>|":
        cell = cell.replace(mark, "\\" + mark)
    return " ".join(printable(cell).split())
