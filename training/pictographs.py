"""The drawings that the model is trained on: open-licence colour pictographs and clip art with transparency, and their captions.

A drawing shows one concept. It has several captions (name, keywords, synonyms, hypernyms, definitions and phrases around them);
each time that training uses the drawing, it draws one of them at random. The held-out drawings and names are defined here.
"""

from __future__ import annotations

import io
import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image
from rich.progress import track

from grammar import article
from lexicon import Concept, SynsetKey, WordNet, load_emoji_concepts, normalize_name
from sources import CLIPART, EMOJI_SETS, ICON_SETS, Source, download

SKIN_TONE = re.compile(r"-(light|medium|dark)(-skin-tone)?(-|$)")  # variants of one drawing; only the one without a tone is used
UNINFORMATIVE_FOLDERS = re.compile(  # folders of clip art that show nothing in particular, or one thing many times
    "stars?/|jigsaw|flowchart|callouts|patterns|gradients|examples|duplicates|cards|folders|icons|theme|logos|signs_and|flags|arrows"
)
MAX_SVG_BYTES = 300_000  # larger clip art takes too long to render
MIN_OPAQUE_SHARE = 0.03  # of the pixels of a drawing
MAX_ASPECT_RATIO = 4
OPAQUE = 128  # alpha above which a pixel counts as visible

COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
# upper ends of the ranges of hue, 0 to 255
HUE_RANGES = (
    (10, "red"), (22, "orange"), (40, "yellow"), (105, "green"), (180, "blue"), (205, "purple"), (240, "pink"), (256, "red"),
)  # fmt: skip


@dataclass(frozen=True)
class Pictographs:
    """All drawings, with their concepts and captions.

    Attributes:
        pixels: The drawings with transparency, uint8 of shape (drawings, size, size, 4).
        concepts: The concept of each drawing.
        captions: The captions of each drawing.
    """

    pixels: np.ndarray
    concepts: list[Concept]
    captions: list[list[str]]

    @cached_property
    def unseen_indices(self) -> np.ndarray:
        """Indices of the drawings whose names are excluded from training: one name in thirty, selected by a hash of the name."""
        is_unseen = [zlib.crc32(f"name {normalize_name(concept.label)}".encode()) % 30 == 0 for concept in self.concepts]
        return np.flatnonzero(is_unseen)

    @cached_property
    def held_out_indices(self) -> np.ndarray:
        """Indices of one drawing in fifty, excluded from training although other drawings of the same name may be used."""
        selected = np.random.default_rng(0).permutation(len(self.pixels))[: len(self.pixels) // 50]
        return np.setdiff1d(selected, self.unseen_indices)

    @cached_property
    def train_indices(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.pixels)), np.union1d(self.held_out_indices, self.unseen_indices))

    def over_white(self, indices: np.ndarray) -> np.ndarray:
        """Return drawings over a white background, uint8 of shape (len(indices), size, size, 3)."""
        rgba = self.pixels[indices].astype(np.uint16)
        alpha = rgba[..., 3:]
        return ((rgba[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)


def make_captions(concept: Concept, wordnet: WordNet, synset_key: SynsetKey | None, colour: str | None) -> list[str]:
    """Return the captions of a drawing. The name occurs most often, and the random choices depend on the name alone.

    Args:
        concept: The concept that the drawing shows.
        wordnet: The source of synonyms, hypernyms and definitions.
        synset_key: The synset of the concept, if there is one.
        colour: The dominant colour of the drawing, if there is one.
    """
    label = concept.label
    rng = random.Random(label)
    keywords = [word for word in concept.keywords if word.lower() != label.lower()]
    captions = [label, label, label]
    captions += [f"{article(label)} {label}", f"a picture of {article(label)} {label}", f"the {label} is shown in a drawing"]
    captions += rng.sample(keywords, min(4, len(keywords)))
    for count in (2, 2, 3):
        if len(keywords) >= count:
            joined = ", ".join(rng.sample(keywords, count))
            captions += [f"{label}, {joined}", joined]
    if concept.category:
        captions.append(concept.category)
    if synset_key is not None:
        synset, hypernyms = wordnet.synsets[synset_key], wordnet.hypernym_names(synset_key, 2)
        captions += [word for word in synset.lemmas if word.lower() != label.lower()][:2]
        captions += [synset.definition, f"{label}: {synset.definition}"]
        captions += [f"{label}, {article(hypernym)} {hypernym}" for hypernym in hypernyms[:1]] + hypernyms
    if colour and not set(COLOURS) & set(label.lower().split()):
        captions += [f"{colour} {label}", f"{article(colour)} {colour} {label}"]
    return captions


def dominant_colour(pixels: np.ndarray) -> str | None:
    """Return the colour word of more than half of the visible pixels, or None if there is no such colour.

    Args:
        pixels: A drawing, uint8 of shape (size, size, 4).
    """
    hue, saturation, value = np.asarray(Image.fromarray(pixels[..., :3]).convert("HSV")).reshape(-1, 3).T.astype(int)
    visible = pixels[..., 3].reshape(-1) > OPAQUE
    if not visible.any():
        return None
    hue, saturation, value = hue[visible], saturation[visible], value[visible]
    names = np.array([name for _, name in HUE_RANGES])[np.searchsorted([end for end, _ in HUE_RANGES], hue, side="right")]
    names = np.where((names == "orange") & (value < 190), "brown", names)
    names = np.where((names == "red") & (saturation < 130) & (value > 180), "pink", names)
    names = np.where(saturation < 40, np.where(value > 215, "white", "grey"), names)
    names = np.where(value < 70, "black", names)
    words, counts = np.unique(names, return_counts=True)
    return str(words[counts.argmax()]) if counts.max() > visible.sum() / 2 else None


def render_svg(svg: str, size: int) -> np.ndarray | None:
    """Return an SVG drawing, scaled to fit and centred, as uint8 of shape (size, size, 4).

    Returns None if the drawing cannot be rendered, is too wide or too tall, or has too few visible pixels.
    """
    try:
        image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * size)))).convert("RGBA")
    except (ValueError, OSError):
        return None
    if not 1 / MAX_ASPECT_RATIO < image.width / image.height < MAX_ASPECT_RATIO:
        return None
    image.thumbnail((size, size), Image.Resampling.BOX)
    canvas = Image.new("RGBA", (size, size), (255, 255, 255, 0))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    pixels = np.asarray(canvas)
    return pixels if (pixels[..., 3] > OPAQUE).mean() > MIN_OPAQUE_SHARE else None


def _read_emoji(source: Source, cache: Path, emoji: dict[str, Concept]) -> Iterator[tuple[str, Concept]]:
    """Yield the SVG text and the concept of each emoji of a set."""
    for name, svg in _iter_svgs(source, cache):
        if SKIN_TONE.search(name):
            continue
        if normalize_name(name) not in emoji and source.folder == "fxemoji":
            continue  # its names have no word boundaries, so an unmatched name cannot be split into words
        base_name = re.sub(r"-\d+$", "", name)
        yield svg, emoji.get(normalize_name(name)) or emoji.get(normalize_name(base_name), Concept(_split_name(name)))


def _read_icons(source: Source, cache: Path, emoji: dict[str, Concept]) -> Iterator[tuple[str, Concept]]:
    """Yield the SVG text and the concept of each icon of a set; of an icon in several sizes, the largest."""
    largest: dict[str, tuple[int, str]] = {}
    for name, svg in _iter_svgs(source, cache):
        base_name, _, suffix = name.rpartition("-")
        size = int(suffix) if source.folder == "fluent-color" and suffix.isdigit() else 0
        key = base_name if size else name
        if size >= largest.get(key, (-1, ""))[0]:
            largest[key] = (size, svg)
    for name, (_, svg) in sorted(largest.items()):
        words = _split_name(name)
        yield svg, emoji.get(normalize_name(words), Concept(words))


def _read_clipart(source: Source, cache: Path, emoji: dict[str, Concept]) -> Iterator[tuple[str, Concept]]:
    """Yield the SVG text and the concept of each piece of clip art, from its title, its keywords and its folders."""
    root = download(source, cache) / "usr" / "share" / "openclipart" / "svg"
    for path in sorted(root.rglob("*.svg")):
        relative = str(path.relative_to(root))
        if UNINFORMATIVE_FOLDERS.search(relative) or path.stat().st_size > MAX_SVG_BYTES:
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        title = re.search(r"<dc:title>([^<]*)</dc:title>", svg)
        subjects = [word.strip().lower().replace("_", " ") for word in re.findall(r"<rdf:li>([^<]*)</rdf:li>", svg)]
        label = _split_name(title.group(1)) if title else ""
        if len(label) < 3 or len(label.split()) > 5:
            label = next((word for word in subjects if word), "")
        folders = [folder.replace("_", " ") for folder in relative.split("/")[:-1] if folder != "unsorted"]
        keywords = tuple(word for word in dict.fromkeys([*subjects, *folders]) if 2 < len(word) < 30 and "unsorted" not in word)
        if label:
            match = emoji.get(normalize_name(label))
            yield svg, Concept(label, keywords, folders[-1] if folders else "", match.subgroup if match else "")


def _iter_svgs(source: Source, cache: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the SVG text of each icon of an Iconify package."""
    icon_set = json.loads((download(source, cache) / "icons.json").read_text())
    for name, icon in sorted(icon_set["icons"].items()):
        if icon.get("hidden"):
            continue
        width, height = (icon.get(side, icon_set.get(side, 16)) for side in ("width", "height"))
        yield name, (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                     f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>')  # fmt: skip


def _split_name(name: str) -> str:
    """Return the words of a name in lower case, without digits and punctuation: "cute_tiger_01" becomes "cute tiger"."""
    return " ".join(re.sub(r"[^A-Za-z' ]|\d", " ", name.replace("-", " ").replace("_", " ")).split()).lower()


def load(cache: Path, size: int) -> Pictographs:
    """Return all drawings at `size` pixels per side. They are rendered once and then read from `cache`."""
    store = cache / f"drawings-{size}.npz"
    if not store.exists():
        _render_all(cache, size, store)
    with np.load(store) as saved:
        concepts, captions = json.loads(str(saved["metadata"]))
        return Pictographs(
            saved["pixels"],
            [Concept(label, tuple(keywords), category, subgroup) for label, keywords, category, subgroup in concepts],
            captions,
        )


def _render_all(cache: Path, size: int, store: Path) -> None:
    """Render the drawings of all packages and write them to `store`."""
    emoji, wordnet = load_emoji_concepts(cache), WordNet(cache)
    pixels, concepts, captions = [], [], []
    readers = {**dict.fromkeys(EMOJI_SETS, _read_emoji), **dict.fromkeys(ICON_SETS, _read_icons), CLIPART: _read_clipart}
    for source, read in readers.items():
        for svg, concept in track(list(read(source, cache, emoji)), f"rendering {source.package}"):
            drawing = render_svg(svg, size)
            if drawing is not None and concept.label:
                pixels.append(drawing)
                concepts.append(concept)
                captions.append(make_captions(concept, wordnet, concept.synset_key(wordnet), dominant_colour(drawing)))
    fields = [[concept.label, concept.keywords, concept.category, concept.subgroup] for concept in concepts]
    partial = store.with_suffix(".partial.npz")
    np.savez_compressed(partial, pixels=np.stack(pixels), metadata=np.array(json.dumps([fields, captions])))
    partial.rename(store)
