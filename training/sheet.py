"""A contact sheet: what the default model draws for 24 texts, kinds of things it knows first, sentences and failures included."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import conjure
from conjure.estimate import noise_seed

PROMPTS = (
    "red apple", "green apple", "blue circle", "yellow heart", "black cat", "brown dog", "a red car", "blue whale",
    "tree", "sun", "tropical fish", "pizza", "alarm clock", "house", "bicycle", "airplane",
    "crying face", "snow leopard", "bengal tiger", "a purple umbrella", "a man riding a horse", "a dog running in the grass",
    "two children playing in the park", "flag of France",
)  # fmt: skip


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=str(Path(__file__).parent / "sheet.png"))
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    process = conjure.load(guidance=arguments.guidance)
    seeds = [noise_seed(arguments.seed, number) for number in range(len(PROMPTS))]
    pictures = process.run(PROMPTS, seeds, output_type="np")
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    for axis, prompt, picture in zip(figure.subplots(3, 8).flat, PROMPTS, pictures, strict=True):
        axis.imshow(picture)
        axis.set(xticks=[], yticks=[])
        axis.set_title("\n".join(textwrap.wrap(prompt, 18)), fontsize=8)
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
