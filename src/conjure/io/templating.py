"""HTML from Jinja2 templates, which escape every value that is no markup already."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from conjure.io.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(package: str, template: str, **values: Any) -> str:
    """Return a template filled with values.

    Texts are escaped, and their unprintable characters become spaces. Templates of `conjure.io` can be extended and included.

    Args:
        package: The package with the folder `templates`, such as `conjure.evaluation`.
        template: The name of a file in this folder.
        values: The values by their names in the template. Values of the type `Markup` are inserted unchanged.

    Raises:
        jinja2.UndefinedError: If a value is missing.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    # Here, because most commands fill no template
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "conjure.io"))]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # for the filter `tojson`
    return environment


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
