"""Results in the formats of the Hugging Face Hub, to publish them with a model.

The Hub shows the files `.eval_results/*.yaml` on the page of a model and collects them in the leaderboard of a dataset.
`model-index` is the older format, in the metadata of a model card. Only complete datasets that are on the Hub are exported, with
the revision if they were read there.
"""

from __future__ import annotations

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from conjure.evaluation.datasets import TASKS, HubDataset
from conjure.evaluation.results import Evaluation, TaskResult

METRIC = "spearman"


def hub_files(evaluation: Evaluation, notes: str) -> dict[str, str]:
    """Return the files for the Hub.

    Args:
        evaluation: The results.
        notes: Settings of the run, in one line.

    Returns:
        The content of each file by its path: one file per dataset for the repository of the model, and `model-index.yaml` for its
        model card. Empty if no result can be exported.
    """
    exported = []
    for name, result in evaluation.tasks.items():
        hub = TASKS[name].hub if result.pairs.is_complete else None
        if hub is not None:
            exported.append((name, hub, result))
    if not exported:
        return {}
    files = {
        f".eval_results/{name}.yaml": _to_yaml(eval_result_entries_to_yaml([_leaderboard_entry(name, hub, result, notes)]))
        for name, hub, result in exported
    }
    index_entries = [_model_index_entry(name, hub, result, notes) for name, hub, result in exported]
    index = eval_results_to_model_index(str(evaluation.process["model"]), index_entries)
    return files | {"model-index.yaml": _to_yaml({"model-index": index})}


def _leaderboard_entry(name: str, hub: HubDataset, result: TaskResult, notes: str) -> EvalResultEntry:
    return EvalResultEntry(
        dataset_id=hub.name, task_id=name, value=_value(result), dataset_revision=_revision(result), notes=notes
    )  # fmt: skip


def _model_index_entry(name: str, hub: HubDataset, result: TaskResult, notes: str) -> EvalResult:
    return EvalResult(
        task_type="sentence-similarity", dataset_type=hub.name, dataset_name=TASKS[name].title, dataset_split=hub.split,
        dataset_revision=_revision(result), metric_type=METRIC, metric_name="Spearman x100 of conjured similarity",
        metric_value=_value(result), metric_config=notes,
    )  # fmt: skip


def _revision(result: TaskResult) -> str | None:
    return None if result.pairs.revision == "folder" else result.pairs.revision


def _value(result: TaskResult) -> float:
    return round(100 * result.agreement.spearman, 2)


def _to_yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
