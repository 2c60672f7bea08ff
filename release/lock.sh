#!/bin/sh
# Lock what a release is built with and what it brings along, every file of PyPI by its hash: `make lock`, after a change of
# pyproject.toml or constraints.txt. Versions are those of constraints.txt; what it does not name is found by uv.
set -eu
cd "$(dirname "$0")/.."
lock() { uv pip compile --quiet --universal --python-version 3.11 --constraint constraints.txt --generate-hashes --no-annotate \
    --custom-compile-command "make lock" "$@"; }
lock --group release --output-file release/tools.txt
lock pyproject.toml --output-file release/runtime.txt
