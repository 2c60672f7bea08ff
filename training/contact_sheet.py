"""Draw a contact sheet: images that the default model generates for 64 prompts, including prompts for which it fails.

python training/contact_sheet.py                             # writes training/sheet.png
python training/contact_sheet.py --shuffle 1 --out quiz.png  # for a blind test: numbers for prompts, whose key is in quiz.json
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap
from pathlib import Path

import conjure
from config import TRAINING_FOLDER
from conjure.diffusion.seeding import noise_seed

PROMPTS = {
    "things": (
        "red apple", "dog", "black cat", "blue whale", "tree", "sun", "pizza", "house", "airplane", "guitar", "bengal tiger",
        "snow leopard", "alarm clock", "crying face", "castle", "hamburger",
    ),
    "words that name no training image": (
        "vehicle", "pony", "to sing", "joyful", "jewelry", "physician", "anger", "weather",
    ),
    "appearances": (
        "a purple umbrella", "a green heart", "a huge elephant", "a tiny elephant", "a tall thin bottle", "a dark red car",
        "something yellow", "a pale blue bird",
    ),
    "scenes": (
        "a man riding a horse", "a woman playing the guitar", "a dog running in the grass", "two small red fish", "three birds",
        "a boat on the water at night", "a house in the snow", "a cat on top of a bed", "a ball under a chair",
        "a girl reading a book", "a bird flying in the sky", "a burning car", "a man talking on the phone",
        "a tree to the left of a house", "a cup of coffee and a cake", "a boy in the rain",
    ),
    "sentences": (
        "A man is slicing a tomato.", "A plane is taking off.", "Two children are playing in the park.",
        "A woman is dancing on a stage.", "Stocks fell sharply on Monday.", "The president met the prime minister.",
        "A group of people walk down a busy street.", "Someone is peeling a potato.",
    ),
    "failures": (
        "a horse riding a man", "a dog without a tail", "no cat", "justice", "seventeen apples", "a chair made of glass",
        "the square root of two", "xqzt",
    ),
}  # fmt: skip
COLUMNS = 16


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description="Draw images that a model generates for 64 prompts.")
    parser.add_argument("--model", default="default", help="folder or name of the model (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=TRAINING_FOLDER / "sheet.png", help="file to write (default: %(default)s)")
    parser.add_argument("--guidance", type=float, help="scale of classifier-free guidance (default: the model's)")
    parser.add_argument("--steps", type=int, default=25, help="sampling steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    parser.add_argument("--shuffle", type=int, help="seed of a random order in which the images have numbers instead of prompts")
    arguments = parser.parse_args()
    process = conjure.load(arguments.model, guidance=arguments.guidance, steps=arguments.steps)
    prompts = [(group, prompt) for group, group_prompts in PROMPTS.items() for prompt in group_prompts]
    seeds = [noise_seed(arguments.seed, i) for i in range(len(prompts))]
    images = process.run([prompt for _, prompt in prompts], seeds, output_type="np")
    order = list(range(len(prompts)))
    if arguments.shuffle is not None:
        random.Random(arguments.shuffle).shuffle(order)
        key = {number: prompts[i][1] for number, i in enumerate(order, 1)}
        arguments.out.with_suffix(".json").write_text(json.dumps(key, indent=1) + "\n")
    figure = Figure(figsize=(21, 6.8))
    figure.set_layout_engine("constrained", h_pad=0.08)  # inches; keeps the group labels apart from the next row
    axes = figure.subplots(len(prompts) // COLUMNS, COLUMNS).flat
    for number, (axis, i) in enumerate(zip(axes, order, strict=True), 1):
        group, prompt = prompts[i]
        axis.imshow(images[i])
        axis.set(xticks=[], yticks=[])
        if arguments.shuffle is not None:
            axis.set_title(str(number), fontsize=8)
            continue
        axis.set_title("\n".join(textwrap.wrap(prompt, 20)), fontsize=8)
        if prompt == PROMPTS[group][0]:
            axis.set_xlabel(group, fontsize=7, style="italic", loc="left")
    figure.savefig(arguments.out, dpi=100)


if __name__ == "__main__":
    main()
