"""Tables and pictures as a document, in Markdown and as one HTML page that needs no other. Texts are data and are escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


def picture_address(picture: bytes, kind: str) -> str:
    """The bytes of a picture's file as a data address, so that a page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@dataclass(frozen=True)
class Table:
    """A title, a head and rows of cells; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table without its title."""
        head = [f"| {' | '.join(self.head)} |", "|" + "---|" * len(self.head)]
        return "\n".join([*head, *(f"| {' | '.join(map(_plain, row))} |" for row in self.rows)])

    def page(self) -> str:
        """The same in HTML."""
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><tr>{heads}</tr>{body}</table>"


@dataclass(frozen=True)
class Document:
    """A title, what was run in one line, tables, notes on them, and pictures (PNG) by what they show."""

    title: str
    settings: Sequence[str]
    tables: Sequence[Table]
    note: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [f"# {self.title}", ""]
        for line in self.settings:
            lines += [_plain(line), ""]
        for table in self.tables:
            lines += [f"## {table.title}", "", table.markdown(), ""]
        return "\n".join([*lines, self.note, ""])

    def page(self) -> str:
        parts = [f"<h2>{html.escape(table.title)}</h2><div>{table.page()}</div>" for table in self.tables]
        for title, picture in self.pictures.items():
            shown = picture_address(picture, "png")
            parts.append(f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="{shown}">')
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(self.title)}</title>'
            "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}div{overflow-x:auto}"
            "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
            "td:first-child,th:first-child{text-align:left}img{max-width:100%;background:#fff}"
            "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
            f"<h1>{html.escape(self.title)}</h1>{''.join(f'<p>{html.escape(line)}</p>' for line in self.settings)}"
            f"{''.join(parts)}<p>{html.escape(self.note)}</p></html>\n"
        )


def _plain(cell: str) -> str:
    """A text that Markdown takes as it is."""
    for mark in "\\`*_[]<>|":
        cell = cell.replace(mark, "\\" + mark)
    return " ".join(cell.split())
