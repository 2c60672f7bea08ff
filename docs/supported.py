"""Write docs/families.md, the table of supported families, from the tiny pipelines that the tests try.

python docs/supported.py          # after a change of tests/families.py, or a new version of diffusers
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import diffusers  # noqa: E402
from families import FAMILIES, save  # noqa: E402

import conjure  # noqa: E402
from conjure.contract import CHECKS, check_model  # noqa: E402
from conjure.process import short  # noqa: E402
from conjure.units import output_of  # noqa: E402

HEAD = f"""# Supported families

Written by `python docs/supported.py`; the tests hold it to what they see. Each family is a tiny pipeline with random weights, of
the classes that its checkpoints have, saved to disk in the real format and loaded by `conjure.load` (diffusers
{diffusers.__version__}). Tried on each, and on any model of yours by `conjure check MODEL`:

{chr(10).join(f"- {name}" for name in CHECKS)}

Real weights of these families could not be downloaded where this was written: that a family's checkpoints do the same is to be
expected, since no code here knows them, and has not been run.

| family | pipeline | predicts | sampler, if none is asked for | text is cut at | texts in a batch | all hold |
|---|---|---|---|---|---|---|
"""


def row(name: str, process: conjure.Process, passed: bool) -> str:
    """The line of a family."""
    own, used = (short(type(one).__name__) for one in (process.pipeline.scheduler, process.scheduler))
    cells = [
        name,
        f"`{type(process.pipeline).__name__}`",
        output_of(process.scheduler).replace("_prediction", ""),
        used if used == own else f"{used} (its own: {own})",
        f"{FAMILIES[name].limit} tokens",
        "alone" if process.alone else "any",
        "yes" if passed else "NO",
    ]
    return f"| {' | '.join(cells)} |"


def load(name: str, folder: Path) -> conjure.Process:
    """The tiny pipeline of a family, saved to `folder` and loaded as a user loads a model."""
    family = FAMILIES[name]
    process = conjure.load(save(name, folder), steps=4, **family.settings)
    return process.set(call=family.call) if family.call else process


def main() -> None:
    rows = []
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            process = load(name, Path(folder))
            rows.append(row(name, process, all(finding.passed for finding in check_model(process))))
            print(rows[-1], flush=True)
    (ROOT / "docs" / "families.md").write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
