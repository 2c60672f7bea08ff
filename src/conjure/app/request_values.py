"""The values of requests of the page and of programs, which are checked before Gradio reads them.

Gradio downloads or copies the file that an object in a request names, writes a traceback for values that its components do not
expect, and keeps values of each session in memory. All components of this app have plain values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_SESSION_CHARS = 100


@dataclass(frozen=True)
class RequestValues:
    """The check of requests to the functions of an app.

    Attributes:
        functions: The functions of Gradio by their number.
        max_chars: Characters of one value.
        num_examples: The number of examples on the page.
    """

    functions: dict[int, Any]
    max_chars: int
    num_examples: int

    def problem(self, body: bytes, *, is_direct: bool) -> str | None:
        """Return why a request is refused in one line, or None if it is allowed.

        Args:
            body: The body of the request, JSON.
            is_direct: Whether the request bypasses the queue. Only functions without computations may be called in this way.
        """
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("data"), list):
            return "the request has no list 'data' of values; gradio_client's view_api() lists the arguments"
        values = request["data"]
        if not all(value is None or isinstance(value, str | int | float) for value in values):  # a boolean is an integer
            return "a value of the request is a list or an object; texts, numbers, booleans and null are allowed"
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        if longest > self.max_chars:
            return f"a value of the request has {longest} characters; at most {self.max_chars} are allowed"
        if len(str(request.get("session_hash"))) > MAX_SESSION_CHARS:
            return f"the session has more than {MAX_SESSION_CHARS} characters"
        number = request.get("fn_index")
        if number is None and not is_direct:  # a program, which calls a function by its name
            return None
        function = self.functions.get(number) if isinstance(number, int) else None
        if function is None or function.fn is None or (is_direct and function.queue):
            return "the request names a function that does not exist, or that needs the queue"
        if is_direct and not self._are_direct_values(function, values):
            return "the values of the request are not those of the page"
        if function.collects_event_data and not _is_selected_row(request.get("event_data")):
            return "the request has no selected row"
        return None

    def _are_direct_values(self, function: Any, values: list[Any]) -> bool:
        """Return whether values are those with which the page calls a function directly: none, or the number of an example."""
        return len(values) == len(function.inputs) and all(
            isinstance(value, int) and not isinstance(value, bool) and 0 <= value < self.num_examples for value in values
        )


def _is_selected_row(event: object) -> bool:
    if not isinstance(event, dict) or not {"index", "value", "row_value"} <= event.keys():
        return False
    row = event["row_value"]
    return isinstance(row, list) and bool(row) and isinstance(row[0], str)
