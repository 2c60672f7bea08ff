"""Write docs/cli.md, the command-line reference, from the typer application of the package.

python docs/generate_cli_reference.py          # after a change of a command, an option or a help text
python docs/generate_cli_reference.py --check  # exits with 1 if docs/cli.md is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

from conjure.cli.commands import app

PAGE = Path(__file__).parent / "cli.md"

HEAD = """# Command line

`python docs/generate_cli_reference.py` writes this page from the commands. `conjure COMMAND --help` prints the same text.

Exit codes: 0 on success; 2 for invalid input, with one line on standard error that states what was got, what is allowed and
how to fix it; 1 for any other failure. Arguments that can be checked without the model are validated before it is loaded.

Results are printed to standard output. Progress, warnings and errors are printed to standard error. Numbers are rounded to
the second digit of their standard error where it is known; `--json` prints them in full precision.
"""


def escape(text: str) -> str:
    """Return `text` as one line of Markdown that shows it literally, also within a table cell."""
    return re.sub(r"([\\`*_\[\]<>|$])", r"\\\1", " ".join(text.split()))


def paragraphs(text: str | None) -> str:
    """Return the help text of a command as Markdown paragraphs. Typer does not show what follows a form feed."""
    blocks = re.split(r"\n\s*\n", (text or "").partition("\f")[0].strip())
    return "\n\n".join(escape(block) for block in blocks)


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def visible(command: Any, kind: str) -> list[Any]:
    """Return the parameters of a kind (`argument` or `option`) that the help shows."""
    return [parameter for parameter in command.params if parameter.param_type_name == kind and not parameter.hidden]


def type_of(parameter: Any, context: Any) -> str:
    """Return the type of a parameter's value with its range, or its choices."""
    if getattr(parameter, "is_flag", False):
        return "flag"
    label = parameter.display_type(context).strip("<>")
    element = re.fullmatch(r"list\[(.*)\]", label)
    cell = ", ".join(f"`{choice}`" for choice in (element[1] if element else label).removesuffix(" range").split("|"))
    if parameter.min is not None:
        cell += f" >= {parameter.min:g}"
    if parameter.max is not None:
        cell += f"{' and' if parameter.min is not None else ''} <= {parameter.max:g}"
    return cell + (", repeatable" if parameter.multiple or parameter.nargs == -1 else "")


def default_of(parameter: Any) -> str:
    """Return the default value of a parameter, or that it is required."""
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return escape(parameter.show_default)
    if getattr(parameter, "is_flag", False):
        return "on" if parameter.default else "off"
    if parameter.default is None or parameter.default in ((), []):
        return ""
    return f"`{parameter.default}`"


def description_of(parameter: Any) -> str:
    """Return the help text of a parameter with the environment variable that sets it."""
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
    variable = f" Environment variable: {', '.join(f'`{name}`' for name in variables)}." if variables else ""
    return escape(parameter.help or "") + variable


def name_of(parameter: Any) -> str:
    """Return the metavariable of an argument, or all spellings of an option."""
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).strip('[]')}`"
    spellings = ", ".join(f"`{spelling}`" for spelling in [*parameter.opts, *parameter.secondary_opts])
    return f"{spellings} `{parameter.metavar}`" if parameter.metavar else spellings


def usage(path: str, command: Any) -> str:
    """Return the synopsis of a command."""
    words = [path]
    if options := visible(command, "option"):
        words.append("[OPTIONS]")
        words += [f"{option.opts[0]} {option.metavar or option.name.upper()}" for option in options if option.required]
    for argument in visible(command, "argument"):
        name = (argument.metavar or argument.name.upper()).strip("[]")
        words.append(name if argument.required else f"[{name}]")
    return " ".join(words)


def subcommands(command: Any) -> list[tuple[str, Any]]:
    """Return the subcommands that the help shows, in the order of the help; none for a command that is no group."""
    return [(name, child) for name, child in getattr(command, "commands", {}).items() if not child.hidden]


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    text = paragraphs(command.help).partition("\n\n")[0]
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]


def sections(path: str, command: Any, context_type: type[Any]) -> Iterator[str]:
    """Yield the parts of a command's section, then those of its subcommands. `path` is the command as it is typed."""
    context = context_type(command, info_name=path)
    children = {f"{path} {name}": child for name, child in subcommands(command)}
    yield f"{'#' * max(2, len(path.split()))} {path}"
    yield paragraphs(command.help)
    if children:
        links = [(f"[`{name}`](#{name.replace(' ', '-')})", summary(child)) for name, child in children.items()]
        yield table(("command", "purpose"), links)
    else:
        yield f"```text\n{usage(path, command)}\n```"
    for kind in ("argument", "option"):
        if parameters := visible(command, kind):
            rows = [(name_of(item), type_of(item, context), default_of(item), description_of(item)) for item in parameters]
            yield table((kind, "type", "default", "description"), rows)
    for name, child in children.items():
        yield from sections(name, child, context_type)


def page() -> str:
    """Return the text of docs/cli.md."""
    command = get_command(app)
    return HEAD + "\n" + "\n\n".join(block for block in sections("conjure", command, command.context_class) if block) + "\n"


def main() -> None:
    """Write the page, or compare it with the file."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/cli.md is out of date; run: python docs/generate_cli_reference.py")


if __name__ == "__main__":
    main()
