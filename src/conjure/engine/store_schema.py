"""The tables of a store, and the migration from the previous schema."""

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
TABLES = {("table", name) for name in ("process", *CONTENT)}

# Schema 2 had the same tables and contents under other names. Checksums do not cover names, so they stay valid.
RENAMED_TABLES = {"judged": "squared_differences", "final": "final_latents", "compared": "baseline_distances"}
SCHEMA_2_TABLES = {("table", name) for name in ("process", *RENAMED_TABLES)}
MIGRATION = "\n".join(
    [
        "BEGIN IMMEDIATE;",
        *(f"ALTER TABLE {old} RENAME TO {new};" for old, new in RENAMED_TABLES.items()),
        *(f"ALTER TABLE {table} RENAME COLUMN sum TO crc32;" for table in ("process", *CONTENT)),
        "ALTER TABLE process RENAME COLUMN visited TO metadata;",
        "ALTER TABLE squared_differences RENAME COLUMN squared TO squared_differences;",
        f"PRAGMA user_version = {SCHEMA_VERSION};",
        "COMMIT;",
    ]
)
