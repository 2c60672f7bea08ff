"""Run the study of docs/howto/video-and-sound.md on two tiny pipelines with random weights, of images and of videos.

    python benchmarks/motion.py --data FOLDER     # a folder with simlex999.tsv; writes benchmarks/motion.md

The weights are random: the numbers show what the commands print, and nothing about verbs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import conjure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from tiny_media_pipelines import VIDEO_FAMILIES  # noqa: E402
from tiny_pipelines import FAMILIES  # noqa: E402

STEPS = 2
NAMES = ("Stable Diffusion 1.x", "LTX-Video")


def study(data: str, folder: Path) -> str:
    """Return the comparison of both processes as Markdown.

    Args:
        data: The folder with the dataset.
        folder: Where the models and the runs are written.
    """
    described = []
    for name, run in zip(NAMES, ("images", "videos"), strict=True):
        family = (FAMILIES | VIDEO_FAMILIES)[name]
        process = conjure.load(family.save(folder / f"model of {run}"), steps=STEPS).set(**family.settings)
        conjure.evaluate(process, ["simlex999"], data=data, samples=1, out=folder / run)
        size = f"{process.height} x {process.width} pixels"
        frames = process.media.frames
        described.append(f"{run}: a tiny {name} with random weights, {size}{f', {frames} frames' if frames else ''}, T = {STEPS}")
    document = conjure.diff(folder / "images", folder / "videos").document()
    tables = [table.to_markdown() for table in document.tables if table.title in ("Datasets", "Subsets")]
    return "\n\n".join(["; ".join(described) + "; one sample, seed 0.", *tables])


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with simlex999.tsv")
    with tempfile.TemporaryDirectory() as folder:
        text = study(parser.parse_args().data, Path(folder))
    (HERE / "motion.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
