"""Option names of the previous release: they are accepted for one more release, hidden from the help, with a warning."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

from conjure.cli.console import print_warning
from conjure.errors import InputError

# The current name of an option and its old name. No command has two options with one of these names.
OLD_NAMES = {
    "--replace": "--instead",
    "--target-relative-error": "--precision",
    "--mds": "--map",
    "--candidates": "--among",
    "--vary": "--over",
    "--max-pairs": "--limit",
    "--images": "--pictures",
    "--max-queue": "--waiting",
    "--max-chars": "--length",
    "--max-texts": "--texts",
    "--concurrency": "--jobs",
}


def print_renamed(old: str, new: str) -> None:
    """Print the warning that `old` is the old name of `new`."""
    print_warning(f"{old} was renamed to {new}; the old name will be removed in the next release")


class DeprecatedOption(TyperOption):
    """The old name of an option: a hidden option that passes its value on to the renamed one."""

    def __init__(self, old_name: str, renamed: TyperOption) -> None:
        super().__init__(
            param_decls=[old_name],
            type_descriptor=renamed.type_descriptor,
            nargs=renamed.nargs,
            is_flag=renamed.is_flag,
            multiple=renamed.multiple,
            hidden=True,
            expose_value=False,
            is_eager=True,  # before the renamed option, which may be required
        )
        self.renamed = renamed

    def handle_parse_result(self, ctx: Any, opts: Any, args: list[str]) -> tuple[Any, list[str]]:
        """Move the value within `opts`, which the parser filled, to the renamed option, which converts and checks it."""
        if self.name in opts:
            old_name, new_name = self.opts[0], self.renamed.opts[0]
            if self.renamed.name in opts:
                raise InputError(f"both {new_name} and its old name {old_name} are given; give {new_name} only")
            print_renamed(old_name, new_name)
            opts[self.renamed.name] = opts[self.name]
        return None, args


class _FlagsWithoutType:
    """A command whose help shows no type beside flags, which take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with `--help`."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_FlagsWithoutType, TyperCommand):
    """A command."""


class Group(_FlagsWithoutType, TyperGroup):
    """A group of commands."""


class CommandWithAliases(Command):
    """A command that also accepts the old names of its options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        renamed = [option for option in self.params if isinstance(option, TyperOption) and option.opts[0] in OLD_NAMES]
        self.params += [DeprecatedOption(OLD_NAMES[option.opts[0]], option) for option in renamed]
