"""Write docs/families.md, the table of supported pipelines, from the tiny pipelines that the tests use.

python docs/generate_families_table.py          # after a change of tests/tiny_pipelines.py, or with a new version of diffusers
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import diffusers  # noqa: E402

import conjure  # noqa: E402
from conjure.diffusion.noise_levels import prediction_type  # noqa: E402
from conjure.diffusion.schedulers import scheduler_alias  # noqa: E402
from conjure.pipeline_checks import CHECKS, check_model  # noqa: E402
from tiny_pipelines import FAMILIES, save  # noqa: E402

HEAD = f"""# Supported pipelines

`python docs/generate_families_table.py` writes this page, and the tests compare it with their own results. For each family,
the tests build a tiny pipeline with random weights from the classes that the family's checkpoints name, save it in the
format of diffusers, and load it with `conjure.load` (diffusers {diffusers.__version__}). They then run the checks that
`conjure check MODEL` runs on any model:

{chr(10).join(f"- {name}" for name in CHECKS)}

The engine has no code that is specific to a family, so a checkpoint of a listed family is expected to pass as well. Not
tested: the published weights of these families.

| family | pipeline | predicts | default sampler | token limit | prompts per batch | all checks pass |
|---|---|---|---|---|---|---|
"""


TAIL = """
## Modular pipelines

`conjure.load` also loads local folders that `ModularPipeline.save_pretrained` wrote. Their API is experimental in
diffusers. The tests cover SDXL, SD3, SD3.5, Flux, Flux 2 Klein, Z-Image and Qwen-Image: each passes the same checks and
gives the same numbers as the stock pipeline with the same components.

- The guider of the pipeline applies guidance, and `--guidance` sets its scale. A scale of 1 means no guidance. A scale of 3
  corresponds to 2 in the stock Z-Image pipeline, and to `true_cfg_scale` 3 in the stock Qwen-Image pipeline. For Z-Image,
  guidance is disabled unless it is set. A saved folder does not contain the scale.
- Blocks that are not part of diffusers are refused, because no code of a repository is executed. Components that are stored
  in another repository are refused as well.

## Known limitations

These do not work: EDM samplers (Playground v2.5 with its default sampler); Sana Sprint, whose sampler predicts a quantity
for which no unit is implemented; HiDream, whose text states have the layers in the first dimension, which the search for
equal rows does not support; and pipelines that do not denoise through `pipeline.scheduler.step`.
"""


def row(name: str, process: conjure.Process, passed: bool) -> str:
    """Return the line of a family in the table."""
    stock, used = (scheduler_alias(type(scheduler).__name__) for scheduler in (process.pipeline.scheduler, process.scheduler))
    cells = [
        name,
        f"`{type(process.pipeline).__name__}`",
        prediction_type(process.scheduler).replace("_prediction", ""),
        used if used == stock else f"{used} (checkpoint: {stock})",
        f"{FAMILIES[name].limit} tokens",
        "any number" if process.batch_prompts else "one",
        "yes" if passed else "NO",
    ]
    return f"| {' | '.join(cells)} |"


def load(name: str, folder: Path) -> conjure.Process:
    """Save the tiny pipeline of a family to `folder`, and load it as a user loads a model."""
    family = FAMILIES[name]
    process = conjure.load(save(name, folder), steps=4, **family.settings)
    return process.set(pipeline_kwargs=family.pipeline_kwargs) if family.pipeline_kwargs else process


def main() -> None:
    """Run the checks on every family and write the page."""
    rows = []
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            process = load(name, Path(folder))
            rows.append(row(name, process, all(result.passed for result in check_model(process))))
            print(rows[-1], flush=True)
    (ROOT / "docs" / "families.md").write_text(HEAD + "\n".join(rows) + "\n" + TAIL)


if __name__ == "__main__":
    main()
