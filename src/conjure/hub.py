"""Results in the formats of the Hugging Face Hub, so that numbers travel with a model.

`.eval_results/*.yaml` are what the Hub shows on a model's page and collects in a data set's leaderboard; `model-index` is the
older way, in the model card's metadata. Only whole sets that lie on the Hub are told, with the revision if it was read there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from conjure.benchmarks import TASKS, Benchmark

if TYPE_CHECKING:
    from conjure.evaluation import Evaluation, TaskResult

METRIC = "spearman"


def files(evaluation: Evaluation, notes: str) -> dict[str, str]:
    """Contents by path: a file a task for a model's repository, and `model-index.yaml` for its card. notes: how it was run."""
    told = {name: (TASKS[name], result) for name, result in evaluation.tasks.items() if _is_whole(name, result)}
    entries = {
        f".eval_results/{name}.yaml": _yaml(eval_result_entries_to_yaml([_entry(name, benchmark, result, notes)]))
        for name, (benchmark, result) in told.items()
    }
    if not told:
        return {}
    results = [_result(benchmark, result, notes) for benchmark, result in told.values()]
    index = eval_results_to_model_index(str(evaluation.process["model"]), results)
    return entries | {"model-index.yaml": _yaml({"model-index": index})}


def _is_whole(name: str, result: TaskResult) -> bool:
    return result.pairs.is_whole and TASKS[name].hub is not None


def _entry(name: str, benchmark: Benchmark, result: TaskResult, notes: str) -> EvalResultEntry:
    assert benchmark.hub
    dataset, revision = benchmark.hub[0], _revision(result)
    return EvalResultEntry(dataset_id=dataset, task_id=name, value=_value(result), dataset_revision=revision, notes=notes)


def _result(benchmark: Benchmark, result: TaskResult, notes: str) -> EvalResult:
    assert benchmark.hub
    dataset, revision, split = benchmark.hub[0], _revision(result), benchmark.hub[2]
    return EvalResult(
        task_type="sentence-similarity", dataset_type=dataset, dataset_name=benchmark.title, dataset_split=split,
        dataset_revision=revision, metric_type=METRIC, metric_name="Spearman x100 of conjured similarity",
        metric_value=_value(result), metric_config=notes,
    )  # fmt: skip


def _revision(result: TaskResult) -> str | None:
    return None if result.pairs.revision == "folder" else result.pairs.revision


def _value(result: TaskResult) -> float:
    return round(100 * result.agreement.spearman, 2)


def _yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
