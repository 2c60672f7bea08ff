"""The command line: one module per group of commands, each a thin layer over the public Python functions."""

from conjure.cli.main import app, main

__all__ = ["app", "main"]
