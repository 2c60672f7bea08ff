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
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO_FAMILIES  # noqa: E402
from tiny_pipelines import FAMILIES, Family  # noqa: E402

ALL_FAMILIES = FAMILIES | VIDEO_FAMILIES | AUDIO_FAMILIES

HEAD = f"""# Supported pipelines

`python docs/generate_families_table.py` writes this page, and the tests compare it with their own results. For each family,
the tests build a tiny pipeline with random weights from the classes that the family's checkpoints name, save it in the
format of diffusers, and load it with `conjure.load` (diffusers {diffusers.__version__}). They then run the checks that
`conjure check MODEL` runs on any model:

{chr(10).join(f"- {name}" for name in CHECKS)}

The engine has no code that is specific to a family, so a checkpoint of a listed family is expected to pass as well. Not
tested: the published weights of these families.
"""

COLUMNS = """
| family | pipeline | predicts | default sampler | token limit | prompts per batch | all checks pass |
|---|---|---|---|---|---|---|
"""

# The heading of each table, the text before it, and its families
SECTIONS = (
    ("Text to image", "", FAMILIES),
    (
        "Text to video",
        """
`--frames` sets the number of frames, and `--fps` the frame rate of models that take it as an input (LTX-Video). Both are part
of the process and of its fingerprint. A number of frames that a model does not generate is refused: it must be 1 more than a
multiple of 4 (Wan, HunyuanVideo), 8 (CogVideoX, LTX-Video) or 6 (Mochi); AnimateDiff generates any number.

Wan 2.2 has two denoisers, one for high and one for low noise levels. Both predict at the steps of one scheduler, so that a
distance includes both. AnimateDiff repeats the text for every frame, so that its denoiser cannot divide a batch into equal
rows: all rows are evaluated. Load AnimateDiff from a folder that `save_pretrained` of a pipeline with its motion adapter wrote.
""",
        VIDEO_FAMILIES,
    ),
    (
        "Text to audio",
        """
`--seconds` sets the length of the sound, which is part of the process and of its fingerprint. The language model of AudioLDM 2
depends on the length of the longest text in a batch, so that each batch has a single text. Stable Audio predicts v at a data
variance of 1 (EDM), where its noise levels and units are those of v.
""",
        AUDIO_FAMILIES,
    ),
)


TAIL = """
## Modular pipelines

`conjure.load` also loads local folders that `ModularPipeline.save_pretrained` wrote. Their API is experimental in
diffusers. The tests cover SDXL, SD3, SD3.5, Flux, Flux 2 Klein, Z-Image and Qwen-Image: each passes the same checks and
gives the same numbers as the stock pipeline with the same components. They generate images.

- The guider of the pipeline applies guidance, and `--guidance` sets its scale. A scale of 1 means no guidance. A scale of 3
  corresponds to 2 in the stock Z-Image pipeline, and to `true_cfg_scale` 3 in the stock Qwen-Image pipeline. For Z-Image,
  guidance is disabled unless it is set. A saved folder does not contain the scale.
- Blocks that are not part of diffusers are refused, because no code of a repository is executed. Components that are stored
  in another repository are refused as well.

## Known limitations

These do not work: EDM samplers (Playground v2.5 with its default sampler); Sana Sprint, whose sampler predicts a quantity
for which no unit is implemented; HiDream, whose text states have the layers in the first dimension, which the search for
equal rows does not support; MusicLDM, which does not run with transformers 5; LTX-2, which denoises a video and its sound with
two schedulers; pipelines whose frames are at different noise levels (SkyReels-V2 with diffusion forcing); and pipelines that do
not denoise through `pipeline.scheduler.step`.
"""


def row(name: str, process: conjure.Process, passed: bool) -> str:
    """Return the line of a family in the table."""
    stock, used = (scheduler_alias(type(scheduler).__name__) for scheduler in (process.pipeline.scheduler, process.scheduler))
    cells = [
        name,
        f"`{type(process.pipeline).__name__}`",
        prediction_type(process.scheduler).replace("_prediction", ""),
        used if used == stock else f"{used} (checkpoint: {stock})",
        f"{ALL_FAMILIES[name].limit} tokens",
        "any number" if process.batch_prompts else "one",
        "yes" if passed else "NO",
    ]
    return f"| {' | '.join(cells)} |"


def load(name: str, folder: Path) -> conjure.Process:
    """Save the tiny pipeline of a family to `folder`, and load it as a user loads a model."""
    family = ALL_FAMILIES[name]
    process = conjure.load(family.save(folder), steps=4, **family.settings)
    return process.set(pipeline_kwargs=family.pipeline_kwargs) if family.pipeline_kwargs else process


def page(rows: dict[str, str]) -> str:
    """Return the page with the lines of the families by their names."""

    def section(title: str, introduction: str, families: dict[str, Family]) -> str:
        return f"\n## {title}\n{introduction}{COLUMNS}" + "".join(rows[name] + "\n" for name in families)

    return HEAD + "".join(section(*parts) for parts in SECTIONS) + TAIL


def main() -> None:
    """Run the checks on every family and write the page."""
    rows = {}
    for name in ALL_FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            process = load(name, Path(folder))
            rows[name] = row(name, process, all(result.passed for result in check_model(process)))
            print(rows[name], flush=True)
    (ROOT / "docs" / "families.md").write_text(page(rows))


if __name__ == "__main__":
    main()
