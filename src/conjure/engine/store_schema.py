"""The tables of a store, the migration from the previous schema, and the additions to a store that cannot be written."""

from __future__ import annotations

SCHEMA_VERSION = 3

CREATE_TABLES = f"""
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS process (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, settings TEXT NOT NULL, metadata TEXT,
    crc32 INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS squared_differences (process INTEGER, text TEXT, seed INTEGER, target TEXT, squared_differences BLOB
    NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (process, text, seed, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS final_latents (process INTEGER, text TEXT, seed INTEGER, latents BLOB NOT NULL, crc32 INTEGER NOT NULL,
    PRIMARY KEY (process, text, seed)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS baseline_distances (process INTEGER, text1 TEXT, text2 TEXT, distances BLOB NOT NULL, crc32 INTEGER NOT
    NULL, PRIMARY KEY (process, text1, text2)) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

# For each table of rows: the columns that identify a row besides the process, and the column of its content
CONTENT = {
    "squared_differences": (("text", "seed", "target"), "squared_differences"),
    "final_latents": (("text", "seed"), "latents"),
    "baseline_distances": (("text1", "text2"), "distances"),
}
# Parts of the definitions of tables, in this schema and the previous one, that databases of other programs do not contain
COLUMN_DEFINITIONS = (
    "(process INTEGER, text TEXT, seed INTEGER, target TEXT, ",
    "(process INTEGER, text TEXT, seed INTEGER, latents BLOB ",
    "(process INTEGER, text1 TEXT, text2 TEXT, distances BLOB ",
)
TABLES = {("table", name) for name in ("process", *CONTENT)}

# Schema 2 had the same tables and contents under other names. Checksums do not cover names, so they stay valid.
RENAMED_TABLES = {"judged": "squared_differences", "final": "final_latents", "compared": "baseline_distances"}
RENAMED_COLUMNS = (
    *((table, "sum", "crc32") for table in ("process", *CONTENT)),
    ("process", "visited", "metadata"),
    ("squared_differences", "squared", "squared_differences"),
)
SCHEMA_2_TABLES = {("table", name) for name in ("process", *RENAMED_TABLES)}
MIGRATION = "\n".join(
    [
        "BEGIN IMMEDIATE;",
        *(f"ALTER TABLE {old} RENAME TO {new};" for old, new in RENAMED_TABLES.items()),
        *(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new};" for table, old, new in RENAMED_COLUMNS),
        f"PRAGMA user_version = {SCHEMA_VERSION};",
        "COMMIT;",
    ]
)


def _schema_2_view(table: str, columns: tuple[str, ...]) -> str:
    """Return the statement for a temporary view with the present names of a table of schema 2, which is not changed."""
    old_columns = {new: old for changed, old, new in RENAMED_COLUMNS if changed == table}
    old_table = {new: old for old, new in RENAMED_TABLES.items()}.get(table, table)
    selected = ", ".join(f"{old_columns.get(column, column)} AS {column}" for column in columns)
    return f"CREATE TEMP VIEW {table} AS SELECT {selected} FROM main.{old_table}"


# Temporary views have precedence over the stored tables of the same names
SCHEMA_2_VIEWS = (
    _schema_2_view("process", ("id", "key", "settings", "metadata", "crc32")),
    *(_schema_2_view(table, ("process", *keys, content, "crc32")) for table, (keys, content) in CONTENT.items()),
)


def _overlay(table: str, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
    """Return the statements for a temporary table of new rows, and a view of these and the stored rows with the table's name."""
    is_new = " AND ".join(f"new.{key} = old.{key}" for key in keys)
    values = ", ".join(f"NEW.{column}" for column in columns)
    return f"""
CREATE TEMP TABLE new_{table} ({", ".join(columns)}, PRIMARY KEY ({", ".join(keys)}));
CREATE TEMP VIEW {table} AS SELECT * FROM temp.new_{table} UNION ALL
    SELECT * FROM main.{table} AS old WHERE NOT EXISTS (SELECT 1 FROM temp.new_{table} AS new WHERE {is_new});
CREATE TEMP TRIGGER insert_{table} INSTEAD OF INSERT ON {table} BEGIN
    INSERT OR REPLACE INTO new_{table} VALUES ({values});
END;
"""


# New results of a store that cannot be written are kept in memory. Temporary views have precedence over the stored tables of the
# same names, so that all queries read both. The number of a process is assigned here, since a view has no rowid.
READ_ONLY_OVERLAY = "\n".join(
    [
        "PRAGMA temp_store = MEMORY;",
        _overlay("process", ("id", "key", "settings", "metadata", "crc32"), ("id",)),
        "DROP TRIGGER insert_process;",
        """CREATE TEMP TRIGGER insert_process INSTEAD OF INSERT ON process
    WHEN NOT EXISTS (SELECT 1 FROM process WHERE key = NEW.key) BEGIN
    INSERT INTO new_process SELECT coalesce(max(id), 0) + 1, NEW.key, NEW.settings, NEW.metadata, NEW.crc32 FROM process;
END;
CREATE TEMP TRIGGER update_process INSTEAD OF UPDATE ON process BEGIN
    INSERT OR REPLACE INTO new_process VALUES (OLD.id, OLD.key, OLD.settings, NEW.metadata, NEW.crc32);
END;""",
        *(
            _overlay(table, ("process", *keys, content, "crc32"), ("process", *keys))
            for table, (keys, content) in CONTENT.items()
        ),
    ]
)
