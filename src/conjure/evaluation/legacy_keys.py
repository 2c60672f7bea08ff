"""Old keys of `run.json` and `summary.json`, so that runs of earlier versions can be resumed and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conjure.errors import InputError


def upgrade_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a `summary.json` with the current keys.

    A summary of an earlier version has the key `identity` instead of `fingerprint`. Its other old keys are replaced one level at
    a time, because names of tasks, subsets and baselines are keys too.

    Raises:
        InputError: If a value of an old summary has another form.
    """
    if "identity" not in summary:
        return summary
    try:
        return _upgrade_summary(summary)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"summary.json of an earlier version is incomplete: {type(error).__name__} {error}") from error


def _upgrade_summary(summary: dict[str, Any]) -> dict[str, Any]:
    upgraded = _rename_keys(summary, {"identity": "fingerprint", "broken": "non_finite_texts"})
    upgraded["process"] = upgrade_process(summary["process"])
    upgraded["tasks"] = {name: _upgrade_task(task) for name, task in summary["tasks"].items()}
    return upgraded


def upgrade_process(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a process, or the content of a `run.json`, with the current keys."""
    upgraded = _rename_keys(settings, {"identity": "fingerprint", "unit": "default_unit", "call": "pipeline_kwargs"})
    if "alone" in upgraded:
        upgraded["batch_prompts"] = not upgraded.pop("alone")
    return upgraded


def _upgrade_task(task: Mapping[str, Any]) -> dict[str, Any]:
    upgraded = _rename_keys(task, {"whole": "is_complete", "left out": "num_excluded"})
    upgraded["groups"] = [_rename_keys(group, {"bias95": "bias_ci95"}) for group in task.get("groups", [])]
    upgraded["baselines"] = {name: _upgrade_baseline(result) for name, result in task.get("baselines", {}).items()}
    return upgraded


def _upgrade_baseline(result: Mapping[str, Any]) -> dict[str, Any]:
    upgraded = _rename_keys(result, {"process less this": "difference"})
    if upgraded["difference"] is not None:
        upgraded["difference"] = _rename_keys(upgraded["difference"], {"rank correlation": "rank_correlation"})
    return upgraded


def _rename_keys(data: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    return {new_names.get(key, key): value for key, value in data.items()}
