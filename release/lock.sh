#!/bin/sh
# Lock the build tools and the dependencies of a release, each file of PyPI by its hash. Run by `make lock`, after a change of
# pyproject.toml or constraints.txt. Versions are those of constraints.txt; uv selects the versions that it does not list.
set -eu
cd "$(dirname "$0")/.."
lock() { uv pip compile --quiet --universal --python-version 3.11 --constraint constraints.txt --generate-hashes --no-annotate \
    --custom-compile-command "make lock" "$@"; }
lock --group release --output-file release/tools.txt
lock pyproject.toml --output-file release/runtime.txt
