"""Human judgements of similarity as data: what each set is, where it comes from, and that what was loaded is it.

The project ships none of them: a set is read from a folder of tab-separated files, or from the Hugging Face Hub at a pinned
revision. Scores are higher for more similar texts; distances are negated before they are correlated with them.
"""

from __future__ import annotations

import hashlib
import math
import os
import string
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from conjure.errors import InputError

SENTENCES, WORDS = ("sentence1", "sentence2"), ("word1", "word2")


@dataclass(frozen=True)
class Benchmark:
    """One protocol over one set of pairs.

    title: as papers call it. file: its name in a folder of such files. texts: the two text columns.
    pairs: how many there are, checked on loading. scores: lowest and highest possible. licence: of the set.
    keep: column and value that a row must have, such as the split. parts: the column by which parts are reported as well, and how
    many pairs each has, checked. hub: dataset on the Hugging Face Hub, its revision, split. change: of every text, before use.
    """

    title: str
    file: str
    pairs: int
    scores: tuple[float, float]
    licence: str
    texts: tuple[str, str] = SENTENCES
    keep: tuple[str, str] | None = None
    part: str | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    hub: tuple[str, str, str] | None = None
    change: Callable[[str], str] | None = None


def _with_full_stop(text: str) -> str:
    """As the authors' earlier code did it: where no other mark ends the text."""
    return text if text[-1] in string.punctuation else text + "."


STS = "scores CC BY-SA 4.0, texts under licences of their own"
SICK = "CC BY-NC-SA 3.0"
STSB_HUB = ("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831")
SICKR_HUB = ("mteb/sickr-sts", "20a6d6f312dd54037fe07a32d58e5e168867909d", "test")  # all 9927 pairs in one split


def _sts(year: int, revision: str, **parts: int) -> Benchmark:
    named = {part.replace("_", "-"): number for part, number in parts.items()}
    return Benchmark(
        f"STS{year}", f"sts{year}.tsv", sum(parts.values()), (0, 5), STS, part="subset", parts=named,
        hub=(f"mteb/sts{year}-sts", revision, "test"),
    )  # fmt: skip


_SICKR = Benchmark("SICK-R", "sickr.tsv", 4927, (1, 5), SICK, keep=("split", "test"))

# "all" of SimCSE (Gao et al. 2021): the subsets of a year concatenated, raw texts, STS-B and SICK-R by their test splits
TASKS: dict[str, Benchmark] = {
    "sts12": _sts(12, "a0d554a64d88156834ff5ae9920b964011b16384", MSRpar=750, MSRvid=750, SMTeuroparl=459, OnWN=750, SMTnews=399),
    "sts13": _sts(13, "7e90230a92c190f1bf69ae9002b8cea547a64cca", FNWN=189, OnWN=561, headlines=750),
    "sts14": _sts(14, "6031580fec1f6af667f0bd2da0a551cf4f0b2375", deft_forum=450, deft_news=300, headlines=750, images=750,
                  OnWN=750, tweet_news=750),
    "sts15": _sts(15, "ae752c7c21bf194d8b67fd573edf7ae58183cbe3", answers_forums=375, answers_students=750, belief=375,
                  headlines=750, images=750),
    "sts16": _sts(16, "4d8694f8f0e0100860b497b999b3dbed754a0513", answer_answer=254, headlines=249, plagiarism=230,
                  postediting=244, question_question=209),
    "stsb": Benchmark("STS-B", "stsb.tsv", 1379, (0, 5), STS, keep=("split", "test"), part="genre", hub=(*STSB_HUB, "test")),
    "sickr": _SICKR,
    "rg65": Benchmark("RG65", "rg65.tsv", 65, (0, 4), "Rubenstein and Goodenough 1965", WORDS),
    "simlex999": Benchmark("SimLex-999", "simlex999.tsv", 999, (0, 10), "Hill, Reichart and Korhonen 2015", WORDS, part="pos",
                           parts={"adjective": 111, "noun": 666, "verb": 222}),
    # for decisions, never for results
    "stsb-dev": Benchmark("STS-B dev", "stsb.tsv", 1500, (0, 5), STS, keep=("split", "dev"), part="genre",
                          hub=(*STSB_HUB, "validation")),
    "sickr-dev": replace(_SICKR, title="SICK-R dev", pairs=500, keep=("split", "dev")),
    # as the paper's authors' earlier code has it
    "sickr-all": replace(_SICKR, title="SICK-R, all 9927", pairs=9927, keep=None, hub=SICKR_HUB),
    "sickr-stop": replace(_SICKR, title="SICK-R, with full stops", change=_with_full_stop),
}  # fmt: skip
SEVEN = ("stsb", "sts12", "sts13", "sts14", "sts15", "sts16", "sickr")


@dataclass(frozen=True)
class Pairs:
    """Judged pairs, ready to be measured.

    name, title: of the task. first, second: the texts. scores: what people said, float64 of shape (pairs,). part: the part of
    each pair, where there are parts. sha256: of all this, so that another version of a set is another run.
    revision: of the Hub's set that they are, `folder` for a declared set from a folder, None for pairs of one's own.
    """

    name: str
    title: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: np.ndarray
    part: tuple[str, ...] | None
    sha256: str
    revision: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether they are all of a declared set, so that they may stand beside others' results on it."""
        return self.revision is not None and len(self) == TASKS[self.name].pairs

    def __len__(self) -> int:
        return len(self.first)

    @property
    def texts(self) -> list[tuple[str, str]]:
        return list(zip(self.first, self.second, strict=True))

    def head(self, limit: int | None) -> Pairs:
        """The first `limit` pairs, all of them for None."""
        return self.at(range(len(self))[:limit])

    def without(self, texts: Collection[str]) -> Pairs:
        """The pairs in which none of `texts` stands."""
        return self.at([i for i, pair in enumerate(self.texts) if not set(pair) & set(texts)])

    def at(self, rows: Sequence[int]) -> Pairs:
        """The pairs numbered `rows`."""
        first, second = (tuple(side[i] for i in rows) for side in (self.first, self.second))
        part = None if self.part is None else tuple(self.part[i] for i in rows)
        return replace(_pairs(self.name, self.title, first, second, self.scores[list(rows)], part), revision=self.revision)


def read(task: str, data: str | Path | None = None) -> Pairs:
    """The pairs of `task`, a name of `TASKS`, from the folder `data`, or from the Hub where `data` is None.

    Errors: `InputError` for an unknown task, a missing or wrong file, and a Hub that cannot be reached.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; allowed are {', '.join(TASKS)}")
    benchmark = TASKS[task]
    if data is not None:
        where = str(Path(data) / benchmark.file)
        rows = _rows(Path(where))
        if benchmark.keep and rows and benchmark.keep[0] not in rows[0]:
            raise InputError(f"{where!r} has no column {benchmark.keep[0]!r}; it has {', '.join(rows[0])}")
        rows = [row for row in rows if benchmark.keep is None or row[benchmark.keep[0]] == benchmark.keep[1]]
    else:
        where, rows = _from_hub(task, benchmark)
    pairs = from_rows(rows, where, name=task, title=benchmark.title, texts=benchmark.texts, part=benchmark.part,
                      scores=benchmark.scores, change=benchmark.change)  # fmt: skip
    if len(pairs) != benchmark.pairs:
        raise InputError(f"{where!r} gives {len(pairs)} pairs of {benchmark.title} instead of {benchmark.pairs}; get it again")
    if pairs.part and benchmark.parts and Counter(pairs.part) != Counter(benchmark.parts):
        raise InputError(
            f"{where!r} has parts {dict(Counter(pairs.part))} of {benchmark.title} instead of {dict(benchmark.parts)}"
        )
    return replace(pairs, revision="folder" if data is not None or benchmark.hub is None else benchmark.hub[1])


def read_tasks(tasks: str | None, data: str | Path | None, limit: int | None) -> list[Pairs]:
    """What the command line asks for: `tasks` by name, separated by commas (`seven` for the paper's Table 1, None for all of the
    paper's), from the folder `data` or the Hub; or the one file `data`. limit: the first pairs of each.

    Errors: `InputError`.
    """
    if limit is not None and limit < 3:
        raise InputError(f"limit is {limit}; allowed are whole numbers from 3 on")
    if data is not None and os.path.isfile(data):
        if tasks is not None:
            raise InputError(f"{str(data)!r} is one set of your own, so leave out --tasks, or give a folder of sets")
        return [read_file(data).head(limit)]
    if data is not None and not os.path.isdir(data):
        raise InputError(f"{str(data)!r} is neither a folder of sets nor a file; see the documentation for their format")
    names = (*SEVEN, "rg65", "simlex999") if tasks is None else tuple(name.strip() for name in tasks.split(",") if name.strip())
    chosen = dict.fromkeys(one for name in names for one in (SEVEN if name == "seven" else (name,)))
    if not chosen:
        raise InputError(f"no task is named; allowed are seven, {', '.join(TASKS)}")
    return [read(name, data).head(limit) for name in chosen]


def read_file(path: str | Path) -> Pairs:
    """One's own pairs: a tab-separated file with a header, two text columns and `score`; other columns are not used.

    The text columns are `sentence1` and `sentence2`, `word1` and `word2`, `text1` and `text2`, or else the first two.
    """
    path = Path(path)
    return _own(_rows(path), str(path), path.stem)


def of_frame(frame: Any, name: str = "frame") -> Pairs:
    """The pairs of a pandas frame, with columns as in `read_file`."""
    return _own(frame.to_dict("records"), name, name)


def _own(rows: Sequence[Mapping[str, Any]], where: str, name: str) -> Pairs:
    columns = list(rows[0]) if rows else []
    if "score" not in columns:
        raise InputError(f"{where!r} has no column 'score'; it has {', '.join(columns) or 'no rows'}")
    rest = [column for column in columns if column != "score"]
    texts = next((pair for pair in (SENTENCES, WORDS, ("text1", "text2")) if set(pair) <= set(rest)), tuple(rest[:2]))
    if len(texts) != 2:
        raise InputError(f"{where!r} has the columns {', '.join(columns)}; two of texts and 'score' are needed")
    return from_rows(rows, where, name=name, title=name, texts=(texts[0], texts[1]))


def from_rows(
    rows: Sequence[Mapping[str, Any]],
    where: str,
    *,
    name: str,
    title: str,
    texts: tuple[str, str],
    part: str | None = None,
    scores: tuple[float, float] = (-math.inf, math.inf),
    change: Callable[[str], str] | None = None,
) -> Pairs:
    """Pairs of `rows`, checked one by one; `where` they come from is for the error. Errors: `InputError`."""
    if not rows:
        raise InputError(f"{where!r} has no pairs; give a file with a header and at least one row")
    for column in (*texts, "score"):
        if column not in rows[0]:
            raise InputError(f"{where!r} has no column {column!r}; it has {', '.join(rows[0])}")
    judged = []
    for number, row in enumerate(rows, 2):
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score) or not scores[0] <= score <= scores[1]:
            raise InputError(f"{where!r}, row {number}: the score is {row['score']!r}; allowed are numbers"
                             + (f" from {scores[0]:g} to {scores[1]:g}" if math.isfinite(scores[0]) else ""))  # fmt: skip
        judged.append(score)
        for column in texts:
            if not isinstance(row[column], str) or not row[column].strip():
                raise InputError(f"{where!r}, row {number}: {column} is blank; every pair needs two texts")
    changed = [[change(row[column]) if change else row[column] for row in rows] for column in texts]
    parts = tuple(str(row[part]) for row in rows) if part and part in rows[0] else None
    return _pairs(name, title, tuple(changed[0]), tuple(changed[1]), np.array(judged), parts)


def _pairs(
    name: str, title: str, first: tuple[str, ...], second: tuple[str, ...], scores: np.ndarray, part: tuple[str, ...] | None
) -> Pairs:
    digest = hashlib.sha256(repr((first, second, scores.tolist(), part)).encode()).hexdigest()
    return Pairs(name, title, first, second, scores, part, digest)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file with a header and no quoting."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *lines = [line.rstrip("\r\n") for line in file] or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 file of tab-separated columns") from error
    columns = head.split("\t")
    rows = []
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        values = line.split("\t")
        if len(values) != len(columns):
            raise InputError(
                f"{str(path)!r}, row {number}: {len(values)} columns instead of {len(columns)}; separate them by tabs"
            )
        rows.append(dict(zip(columns, values, strict=True)))
    return rows


def _from_hub(task: str, benchmark: Benchmark) -> tuple[str, list[dict[str, Any]]]:
    if benchmark.hub is None:
        raise InputError(
            f"{benchmark.title} ({task}) is not on the Hub in this form; give a folder that holds {benchmark.file} by --data"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            "sets from the Hub need the package datasets: pip install 'conjure[hub]', or give a folder by --data"
        ) from error
    name, revision, split = benchmark.hub
    try:
        return f"{name}@{revision[:8]}", list(load_dataset(name, revision=revision, split=split))
    except Exception as error:  # datasets, its transport and the Hub client each raise their own kinds
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} cannot be fetched from the Hub: {told}; check the connection, or give a folder by --data"
        ) from error
