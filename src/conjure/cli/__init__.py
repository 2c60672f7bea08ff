"""The command line: one module per group of commands, each a thin layer over the public Python functions."""

from conjure.cli.main import main

__all__ = ["main"]
