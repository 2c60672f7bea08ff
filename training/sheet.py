"""A contact sheet: what the default model draws for 64 texts, of its kinds of data first, then sentences, and where it fails.

python training/sheet.py      # writes training/sheet.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import conjure
from conjure.estimate import noise_seed

PROMPTS = {
    "things": (
        "red apple", "dog", "black cat", "blue whale", "tree", "sun", "pizza", "house", "airplane", "guitar", "bengal tiger",
        "snow leopard", "alarm clock", "crying face", "castle", "hamburger",
    ),
    "words that no picture is named by": (
        "vehicle", "pony", "to sing", "joyful", "jewelry", "physician", "anger", "weather",
    ),
    "how things look": (
        "a purple umbrella", "a green heart", "a huge elephant", "a tiny elephant", "a tall thin bottle", "a dark red car",
        "something yellow", "a pale blue bird",
    ),
    "scenes": (
        "a man riding a horse", "a woman playing the guitar", "a dog running in the grass", "two small red fish", "three birds",
        "a boat on the water at night", "a house in the snow", "a cat on top of a bed", "a ball under a chair", "a girl reading a book",
        "a bird flying in the sky", "a burning car", "a man talking on the phone", "a tree to the left of a house", "a cup of coffee and a cake",
        "a boy in the rain",
    ),
    "sentences": (
        "A man is slicing a tomato.", "A plane is taking off.", "Two children are playing in the park.", "A woman is dancing on a stage.",
        "Stocks fell sharply on Monday.", "The president met the prime minister.", "A group of people walk down a busy street.",
        "Someone is peeling a potato.",
    ),
    "where it fails": (
        "a horse riding a man", "a dog without a tail", "no cat", "justice", "seventeen apples", "a chair made of glass",
        "the square root of two", "xqzt",
    ),
}  # fmt: skip
WIDE = 16


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", default=str(Path(__file__).parent / "sheet.png"))
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    process = conjure.load(arguments.model, guidance=arguments.guidance, steps=arguments.steps)
    texts = [(kind, text) for kind, some in PROMPTS.items() for text in some]
    seeds = [noise_seed(arguments.seed, number) for number in range(len(texts))]
    pictures = process.run([text for _, text in texts], seeds, output_type="np")
    figure = Figure(figsize=(21, 6.8))
    figure.set_layout_engine("constrained", h_pad=0.08)  # inches, so that the kind of a row does not touch the next
    for axis, (kind, text), picture in zip(figure.subplots(len(texts) // WIDE, WIDE).flat, texts, pictures, strict=True):
        axis.imshow(picture)
        axis.set(xticks=[], yticks=[])
        axis.set_title("\n".join(textwrap.wrap(text, 20)), fontsize=8)
        if text == PROMPTS[kind][0]:
            axis.set_xlabel(kind, fontsize=7, style="italic", loc="left")
    figure.savefig(arguments.out, dpi=100)


if __name__ == "__main__":
    main()
