"""The explanations of a report: its terms, a paragraph on the methods, and BibTeX entries."""

from __future__ import annotations

from collections.abc import Sequence

from conjure.diffusion.load_options import describe_changes
from conjure.evaluation.results import Evaluation
from conjure.io.documents import Table
from conjure.io.formatting import pluralize

GLOSSARY = {
    "Spearman": "Spearman x100 of negated distances with human ratings.",
    "95% CI": "Intervals are 95% bootstrap intervals over pairs, and over samples where there are several. With fewer than 20 "
    "pairs, the interval of a correlation is computed by inverting a test that assumes normal variables; with several samples, "
    "it contains the bootstrap interval too.",
    "p": "The two-sided p of a difference is from the same bootstrap as its interval.",
    "reliability and ceiling": "Reliability is the expected rank correlation of two independent runs; the ceiling, its "
    "square root, is the highest correlation that is possible with this noise.",
    "paper": "The column “paper” is Stable Diffusion v1.4, as printed in Liu and Soatto (2026).",
}
COLUMNS = {"p": "p", "reliability and ceiling": "reliability (ceiling)", "paper": "paper"}  # to which a term belongs
FLOORS_NOTE = (
    "Floors are reference values for the correlation: the cosine of the process's text encoder alone; the partial correlation "
    "of distances and ratings, given this cosine; and the process with shuffled texts, on at most 100 pairs in one sample: each "
    "text has the condition of another."
)
BIAS_NOTE = (
    "Bias is the mean of model minus human percentile of similarity, from -100 to 100; it is positive where the model "
    "overestimates similarity. Its interval is that of Student's t over the pairs of the kind. The intervals are not corrected "
    "for the number of kinds."
)

PAPER_BIBTEX = """@inproceedings{liu2026conjuring,
  title     = {Conjuring Semantic Similarity},
  author    = {Liu, Tian Yu and Soatto, Stefano},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2410.16431},
}"""


def glossary(tables: Sequence[Table], has_pairs: bool) -> dict[str, str]:
    """Return the explanations of the terms that a report contains, by term.

    Args:
        tables: The tables of all tasks.
        has_pairs: Whether the report has kinds of pairs as well.
    """
    shown = {column for table in tables for column in table.without_empty_columns().columns}
    terms = {term: text for term, text in GLOSSARY.items() if COLUMNS.get(term, "Spearman") in shown}
    has_floors = any(table.title == "Floors" for table in tables)
    return terms | ({"floors": FLOORS_NOTE} if has_floors else {}) | ({"bias": BIAS_NOTE} if has_pairs else {})


def methods(evaluation: Evaluation) -> str:
    """Return a paragraph with everything that a reader needs to repeat an evaluation."""
    process, config = evaluation.process, evaluation.config
    revision = f" at revision {process['revision']}" if process["revision"] else ""
    changes = "".join(f", {change}" for change in describe_changes(process))
    guidance = "" if process["guidance"] is None else f", guidance {process['guidance']:g}"
    antithetic = " The two texts of a pair start from opposite noise." if evaluation.antithetic else ""
    data = "; ".join(
        f"{result.pairs.title} ({pluralize(len(result.pairs), 'pair')}, SHA-256 {result.pairs.sha256[:12]})"
        for result in evaluation.tasks.values()
    )
    return (
        f"We measured how well distances of texts agree with human ratings, with Conjure {evaluation.version} (Liu and Soatto, "
        f"2026). The distance of two texts is the divergence “{config.divergence}” between the denoising processes of the model "
        f"{process['model']}{revision} ({process['pipeline']}) for the two texts, with weighting “{config.weighting}” and "
        f"reduction “{config.reduction}”, in the unit “{config.unit_label}”. We used {process['scheduler']} with "
        f"{pluralize(process['steps'], 'step')}{guidance}, {process['dtype']}{changes}, and averaged over "
        f"{pluralize(evaluation.samples, 'sample')} from seed {evaluation.seed}.{antithetic} Agreement is the Spearman "
        f"correlation of negated distances with the ratings of {data}. {GLOSSARY['95% CI']} The fingerprint of the process is "
        f"{evaluation.fingerprint}."
    )


def bibtex(evaluation: Evaluation) -> str:
    """Return BibTeX entries of the paper and of this version of the package."""
    software = f"""@software{{conjure,
  title   = {{Conjure}},
  author  = {{{{The Conjure developers}}}},
  version = {{{evaluation.version}}},
  note    = {{Fingerprint of the process: {evaluation.fingerprint}}},
}}"""
    return f"{PAPER_BIBTEX}\n{software}"
