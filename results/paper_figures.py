"""Draw the figures of docs/paper.md for any model: Figures 1, 4 and 5 of the paper, and both matrices of its Figure 2.

make figures                                             # the default model, into docs/figures
python results/paper_figures.py --model CompVis/stable-diffusion-v1-4 --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import conjure

HERE = Path(__file__).parent
GRIDS = {
    "leopard": ("snow leopard", "bengal tiger"),
    "merlion": ("merlion", "mermaid lion"),
    "chips": ("bag of chips", "bag of fries"),
}
MATRICES = {
    "nouns": (("puppy", "poodle", "dalmatian", "pug"), ("whale", "shark", "dolphin", "sea lion")),
    "verbs": (("elevate", "ascend", "soar", "glide"), ("disappoint", "grieve", "worry", "regret")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name or folder of the model, as for conjure.load")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "figures", help="folder of the figures")
    parser.add_argument("--samples", type=int, default=3, help="noise samples per pair")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    process = conjure.load(arguments.model)
    for name, (first, second) in GRIDS.items():
        conjure.explain(process, first, second, samples=arguments.samples).save(arguments.out / f"{name}.png")
    for name, groups in MATRICES.items():
        matrix = conjure.matrix(process, [text for group in groups for text in group], samples=arguments.samples)
        matrix.save(arguments.out / f"{name}.png")
        print(f"{name}: mean silhouette {matrix.separation(groups)}")


if __name__ == "__main__":
    main()
