"""Tables in files: separated values with or without quoting, JSON Lines, and Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conjure.errors import InputError
from conjure.io.files import import_pyarrow
from conjure.io.input_files import MAX_FILE_MB, STANDARD_INPUT, decode_input, read_input, read_input_text
from conjure.io.text import one_line, split_lines

Row = dict[str, Any]

FORMATS = "give a UTF-8 file of columns separated by tabs, commas or semicolons, a .jsonl file, or a .parquet file"
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons"}


def read_table(path: Path, max_mb: int = MAX_FILE_MB) -> list[Row]:
    """Read a table.

    The suffixes `.jsonl`, `.ndjson` and `.json` (JSON Lines, or an array of objects) and `.parquet` name a format. Every other
    file has a header, and columns that are separated by the tab, comma or semicolon of its header, whatever its suffix is.
    Fields may be quoted, as pandas and spreadsheets write them. A file whose quotation marks are no consistent quoting is read
    without quoting. The format of standard input is recognized by its beginning.

    Args:
        path: The file, in UTF-8, or in UTF-16 with a byte order mark; `-` for standard input.
        max_mb: The largest size of the file, in units of 10^6 bytes.

    Returns:
        The rows as mappings from column to value. All values of separated columns are strings.

    Raises:
        InputError: If the file cannot be read, is too large, or is no table.
    """
    content, source = read_input(path, max_mb, advice=FORMATS), source_name(path)
    suffix = _suffix_of(content) if str(path) == STANDARD_INPUT else path.suffix.lower()
    if suffix == ".parquet":
        return _parse_parquet(content, source, max_mb)
    text = decode_input(content, path, advice=FORMATS)
    return _parse_json(text, source) if suffix in JSON_SUFFIXES else _parse_separated(text, source)


def source_name(path: Path) -> str:
    """Return what messages call a file."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def _suffix_of(content: bytes) -> str:
    """Return the suffix that a file with this content would have; empty for separated columns."""
    if content.startswith(b"PAR1"):
        return ".parquet"
    return ".jsonl" if content.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[") else ""


def read_unquoted(path: Path) -> list[Row]:
    """Read the rows of a tab-separated file with a header and without quoting.

    Raises:
        InputError: If the file cannot be read, or a row has another number of columns than the header.
    """
    text = read_input_text(path, advice="give a UTF-8 file of tab-separated columns")
    return _rows(_split(text, "\t"), "\t", str(path))


def _parse_separated(text: str, source: str) -> list[Row]:
    header = next(iter(split_lines(text)), "")
    separator = max(SEPARATORS, key=lambda mark: (mark == "\t" and mark in header, header.count(mark)))
    unquoted = _split(text, separator)
    if '"' not in text:
        return _rows(unquoted, separator, source)
    quoted = _parse_quoted(text, separator)
    # A mark at the start of one row and a mark at the end of another look like one quoted field that contains whole rows
    merges_rows = quoted is not None and _is_even(unquoted) and len(quoted) < len(unquoted)
    return _rows(unquoted if quoted is None or merges_rows else quoted, separator, source)


def _split(text: str, separator: str) -> list[list[str]]:
    """Return the fields of each line that is not empty."""
    return [line.split(separator) for line in split_lines(text) if line]


def _parse_quoted(text: str, separator: str) -> list[list[str]] | None:
    """Return the fields of each row of a text with quoting; None if its quotation marks are no consistent quoting."""
    if separator == "\t":
        # Writers that quote also quote each field that contains a mark, so a field with an unquoted mark shows a file without
        # quoting. Files with commas are not checked for this, since unquoted marks inside of fields are usual there.
        field = rf'(?:"[^"]*+(?:""[^"]*+)*+"|[^"{separator}\r\n]*+)'
        if not re.fullmatch(rf"(?:{field}[{separator}\r\n])*+{field}", text):
            return None
    limit = csv.field_size_limit(len(text) + 1)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    rows = [row for row in rows if row]
    return rows if _is_even(rows) else None


def _is_even(rows: Sequence[Sequence[str]]) -> bool:
    return len(set(map(len, rows))) <= 1


def _rows(fields: Sequence[Sequence[str]], separator: str, source: str) -> list[Row]:
    """Return rows as mappings from the columns of the header, which is the first row.

    Raises:
        InputError: If a row has another number of columns than the header, or two columns have the same name.
    """
    if not fields:
        return []
    columns, *lines = fields
    repeated = [column for column, count in Counter(columns).items() if count > 1 and column.strip()]
    if repeated:
        raise InputError(f"{source!r} has two columns {repeated[0]!r}; give each column its own name")
    for number, values in enumerate(lines, 2):
        if len(values) != len(columns):
            raise InputError(
                f"{source!r}, row {number}: {len(values)} columns instead of {len(columns)}; its header is separated by "
                f"{SEPARATORS[separator]}; separate all rows by them, and quote fields that contain one"
            )
    return [dict(zip(columns, values, strict=True)) for values in lines]


def _parse_json(text: str, source: str) -> list[Row]:
    advice = "give one JSON object per line, or one array of objects"
    is_array = text.lstrip()[:1] == "["
    documents = [text] if is_array else [line for line in split_lines(text) if line.strip()]
    rows: list[Any] = []
    for number, document in enumerate(documents, 1):
        try:
            content = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source!r}, entry {number} cannot be read: {error}; {advice}") from error
        rows += content if is_array else [content]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{source!r}, entry {number} is not an object; {advice}")
    return rows


def _parse_parquet(content: bytes, source: str, max_mb: int) -> list[Row]:
    pyarrow, parquet = import_pyarrow()
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if size <= max_mb * 10**6:
            rows: list[Row] = file.read().to_pylist()
            return rows
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{source!r} cannot be read: {one_line(error)}; {FORMATS}") from error
    raise InputError(f"{source!r} has {size / 1e6:,.0f} MB without compression; at most {max_mb:,} MB are allowed; "
                     "give a smaller file, or raise the limit by --max-file-mb")  # fmt: skip
