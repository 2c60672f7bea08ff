"""Datasets of human ratings of similarity: what each consists of, where it is read from, and a check of what was read.

The package ships no dataset. A dataset is read from a folder of tab-separated files, or from the Hugging Face Hub at a pinned
revision. Scores are higher for more similar texts, so distances are negated before they are correlated with scores.
"""

from __future__ import annotations

import os
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from conjure.deprecation import warn_renamed
from conjure.errors import InputError
from conjure.evaluation.columns import parse_columns
from conjure.evaluation.pair_files import (
    SENTENCE_COLUMNS,
    WORD_COLUMNS,
    DataFrame,
    Pairs,
    from_dataframe,
    from_rows,
    read_file,
)
from conjure.evaluation.pair_rows import check_choice
from conjure.evaluation.tables import read_unquoted
from conjure.io.input_files import MAX_FILE_MB, STANDARD_INPUT
from conjure.io.text import one_line

__all__ = [
    "PAPER_TABLE_1", "PAPER_TASKS", "TASKS", "DatasetSpec", "HubDataset", "Pairs", "from_dataframe", "from_rows", "load_tasks",
    "of_frame", "read", "read_file",
]  # fmt: skip


class HubDataset(NamedTuple):
    """A dataset on the Hugging Face Hub.

    Attributes:
        name: Repository of the dataset.
        revision: Pinned commit.
        split: Split that is read.
    """

    name: str
    revision: str
    split: str


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset consists of, under one protocol.

    Attributes:
        title: Name of the dataset in papers.
        file: Name of its file in a folder of datasets.
        pairs: Number of pairs, checked when it is read.
        score_range: Lowest and highest possible score.
        licence: Licence of the dataset.
        text_columns: The two columns of texts.
        row_filter: A column and the value that a row must have there, such as the split.
        subset_column: Column of the subsets that are reported separately.
        subset_sizes: Number of pairs of each subset, checked when the dataset is read.
        hub: The dataset on the Hugging Face Hub; None where it is not there under this protocol.
        preprocess: Applied to every text.
    """

    title: str
    file: str
    pairs: int
    score_range: tuple[float, float]
    licence: str
    text_columns: tuple[str, str] = SENTENCE_COLUMNS
    row_filter: tuple[str, str] | None = None
    subset_column: str | None = None
    subset_sizes: Mapping[str, int] = field(default_factory=dict)
    hub: HubDataset | None = None
    preprocess: Callable[[str], str] | None = None


def _with_full_stop(text: str) -> str:
    """Add a full stop unless the text ends with punctuation, as earlier code of the paper's authors does."""
    return text if text[-1] in string.punctuation else text + "."


STS_LICENCE = "scores CC BY-SA 4.0; the texts have their own licences"
SICK_LICENCE = "CC BY-NC-SA 3.0"
STSB_TEST = HubDataset("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", "test")
SICKR_HUB = HubDataset("mteb/sickr-sts", "20a6d6f312dd54037fe07a32d58e5e168867909d", "test")  # all 9927 pairs in one split


def _sts(year: int, revision: str, **sizes: int) -> DatasetSpec:
    subset_sizes = {name.replace("_", "-"): size for name, size in sizes.items()}
    return DatasetSpec(
        f"STS{year}", f"sts{year}.tsv", sum(sizes.values()), (0.0, 5.0), STS_LICENCE, subset_column="subset",
        subset_sizes=subset_sizes, hub=HubDataset(f"mteb/sts{year}-sts", revision, "test"),
    )  # fmt: skip


_STSB = DatasetSpec("STS-B", "stsb.tsv", 1379, (0.0, 5.0), STS_LICENCE, row_filter=("split", "test"), subset_column="genre",
                    hub=STSB_TEST)  # fmt: skip
_SICKR = DatasetSpec("SICK-R", "sickr.tsv", 4927, (1.0, 5.0), SICK_LICENCE, row_filter=("split", "test"))

# The protocol "all" of SimCSE (Gao et al. 2021): concatenated subsets of a year, raw texts, test splits of STS-B and SICK-R
TASKS: dict[str, DatasetSpec] = {
    "sts12": _sts(12, "a0d554a64d88156834ff5ae9920b964011b16384", MSRpar=750, MSRvid=750, SMTeuroparl=459, OnWN=750, SMTnews=399),
    "sts13": _sts(13, "7e90230a92c190f1bf69ae9002b8cea547a64cca", FNWN=189, OnWN=561, headlines=750),
    "sts14": _sts(14, "6031580fec1f6af667f0bd2da0a551cf4f0b2375", deft_forum=450, deft_news=300, headlines=750, images=750,
                  OnWN=750, tweet_news=750),
    "sts15": _sts(15, "ae752c7c21bf194d8b67fd573edf7ae58183cbe3", answers_forums=375, answers_students=750, belief=375,
                  headlines=750, images=750),
    "sts16": _sts(16, "4d8694f8f0e0100860b497b999b3dbed754a0513", answer_answer=254, headlines=249, plagiarism=230,
                  postediting=244, question_question=209),
    "stsb": _STSB,
    "sickr": _SICKR,
    "rg65": DatasetSpec("RG65", "rg65.tsv", 65, (0.0, 4.0), "Rubenstein and Goodenough 1965", WORD_COLUMNS),
    "simlex999": DatasetSpec("SimLex-999", "simlex999.tsv", 999, (0.0, 10.0), "Hill, Reichart and Korhonen 2015", WORD_COLUMNS,
                             subset_column="pos", subset_sizes={"adjective": 111, "noun": 666, "verb": 222}),
    # for decisions during development, not for results
    "stsb-dev": replace(_STSB, title="STS-B dev", pairs=1500, row_filter=("split", "dev"),
                        hub=STSB_TEST._replace(split="validation")),
    "sickr-dev": replace(_SICKR, title="SICK-R dev", pairs=500, row_filter=("split", "dev")),
    # the protocols of earlier code of the paper's authors
    "sickr-all": replace(_SICKR, title="SICK-R, all 9927", pairs=9927, row_filter=None, hub=SICKR_HUB),
    "sickr-stop": replace(_SICKR, title="SICK-R, with full stops", preprocess=_with_full_stop),
}  # fmt: skip
PAPER_TABLE_1 = ("stsb", "sts12", "sts13", "sts14", "sts15", "sts16", "sickr")  # Table 1 of Liu and Soatto (2026)
PAPER_TASKS = (*PAPER_TABLE_1, "rg65", "simlex999")


def read(task: str, data: str | Path | None = None) -> Pairs:
    """Read the pairs of a declared dataset and check them.

    Args:
        task: A name of `TASKS`.
        data: A folder of tab-separated files; None reads from the Hugging Face Hub, if the dataset is there.

    Raises:
        InputError: If the task is unknown, its file is missing or differs from its declaration, or the Hub cannot be reached.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; must be one of {', '.join(TASKS)}")
    spec = TASKS[task]
    if data is not None:
        source = str(Path(data) / spec.file)
        rows = _read_from_folder(Path(source), spec)
    else:
        source, rows = _read_from_hub(task, spec)
    pairs = from_rows(rows, source, name=task, title=spec.title, text_columns=spec.text_columns,
                      subset_column=spec.subset_column, score_range=spec.score_range, preprocess=spec.preprocess)  # fmt: skip
    if len(pairs) != spec.pairs:
        raise InputError(f"{source!r} has {len(pairs)} pairs of {spec.title} instead of {spec.pairs}; download it again")
    if pairs.subset and spec.subset_sizes and Counter(pairs.subset) != Counter(spec.subset_sizes):
        raise InputError(
            f"{source!r} has subsets {dict(Counter(pairs.subset))} of {spec.title} instead of {dict(spec.subset_sizes)}; "
            "download it again"
        )
    revision = "folder" if data is not None or spec.hub is None else spec.hub.revision
    return replace(pairs, revision=revision, dataset_size=spec.pairs)


def load_tasks(
    tasks: str | None,
    data: str | Path | None,
    max_pairs: int | None,
    columns: str | None = None,
    max_file_mb: int = MAX_FILE_MB,
    shuffle: int | None = None,
) -> list[Pairs]:
    """Read the tasks that a command line names.

    Args:
        tasks: Names of `TASKS`, separated by commas; `paper-table-1` stands for the datasets of the paper's Table 1. None stands
            for these, RG65 and SimLex-999.
        data: A folder of datasets, or a single file of pairs (`-` for standard input); None reads from the Hugging Face Hub,
            which has only the STS datasets and `sickr-all`.
        max_pairs: Only the first pairs of each task are used; None uses all.
        columns: Names of the columns of a single file: two columns of texts and one of scores, separated by commas. None finds
            them by known names.
        max_file_mb: Largest size of a single file of pairs, in units of 10^6 bytes.
        shuffle: Seed with which `max_pairs` random pairs of each task are chosen; None uses the first ones.

    Raises:
        InputError: If an argument is not allowed, or a dataset cannot be read.
    """
    check_choice(max_pairs, shuffle)
    if data is not None and (str(data) == STANDARD_INPUT or os.path.isfile(data)):
        if tasks is not None:
            raise InputError(f"{str(data)!r} is a single file of pairs; leave out --tasks, or give a folder of datasets")
        return [read_file(data, parse_columns(columns), max_mb=max_file_mb).choose(max_pairs, shuffle)]
    if columns is not None:
        raise InputError("columns can only be chosen for a single file of pairs; leave out --columns, or name the file by --data")
    if data is not None and not os.path.isdir(data):
        raise InputError(f"{str(data)!r} is neither a file of pairs nor a folder of datasets; the documentation describes both")
    names = PAPER_TASKS if tasks is None else tuple(name.strip() for name in tasks.split(",") if name.strip())
    if "seven" in names:
        warn_renamed("--tasks seven", "--tasks paper-table-1")
    groups = {"paper-table-1": PAPER_TABLE_1, "seven": PAPER_TABLE_1}
    unique_names = dict.fromkeys(task for name in names for task in groups.get(name, (name,)))
    if not unique_names:
        raise InputError(f"no task is given; must be paper-table-1 or names of {', '.join(TASKS)}")
    return [read(name, data).choose(max_pairs, shuffle) for name in unique_names]


def of_frame(frame: DataFrame, name: str = "frame") -> Pairs:
    """Return the pairs of a pandas data frame. Deprecated: use `from_dataframe`."""
    warn_renamed("of_frame", "from_dataframe")
    return from_dataframe(frame, name)


def _read_from_folder(path: Path, spec: DatasetSpec) -> list[dict[str, str]]:
    rows = read_unquoted(path)
    if spec.row_filter is None:
        return rows
    column, value = spec.row_filter
    if rows and column not in rows[0]:
        raise InputError(f"{str(path)!r} has no column {column!r}; its columns are {', '.join(rows[0])}")
    return [row for row in rows if row[column] == value]


def _read_from_hub(task: str, spec: DatasetSpec) -> tuple[str, list[dict[str, Any]]]:
    """Return a description of the source, and its rows."""
    if spec.hub is None:
        raise InputError(
            f"{spec.title} ({task}) is not on the Hub in this form; give a folder that contains {spec.file} by --data"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            "datasets from the Hub need the package datasets: pip install '.[hub]' in a clone, or give a folder by --data"
        ) from error
    name, revision, split = spec.hub
    try:
        return f"{name}@{revision[:8]}", list(load_dataset(name, revision=revision, split=split))
    except Exception as error:  # datasets, its transport and the Hub client each raise their own exception types
        raise InputError(
            f"{name} cannot be downloaded from the Hub: {one_line(error)}; check the connection, or give a folder by --data"
        ) from error
