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


TAIL = """
## Modular pipelines

Local folders that `ModularPipeline.save_pretrained` wrote are loaded as well (their API is experimental in diffusers). The tests try
SDXL, SD3, SD3.5, Flux, Flux 2 Klein, Z-Image and Qwen-Image: they keep the same contract, and give the numbers of the stock
pipeline of the same parts. What to know:

- Their guidance belongs to a guider, which `--guidance` sets. It counts from 1, no guidance: 3 there is 2 in the stock Z-Image, and
  `true_cfg_scale` 3 in the stock Qwen-Image. Z-Image's is off until you ask for it. A folder does not keep it.
- Blocks that are not diffusers' own are refused, since no code of a repository is run; so are parts that lie in another repository.

## What was found not to work

EDM samplers (Playground v2.5 with its own), Sana Sprint (its sampler's output has no units here), HiDream (its text states have the
layers first, which the search for equal rows does not know), and pipelines whose samplers they step by other means.
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
    (ROOT / "docs" / "families.md").write_text(HEAD + "\n".join(rows) + "\n" + TAIL)


if __name__ == "__main__":
    main()
