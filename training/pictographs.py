"""The training pictures: open-licence colour pictographs and clip art, drawn with their transparency, and what they answer to.

One picture is a thing of some name; it has several captions (name, keywords, synonyms, kinds, glosses, plain phrases around
them), and training draws one of them for every view of it. What is held out is held out here, by picture and by name.
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

from sources import CLIPART, EMOJI, ICONS, Source, download
from words import Key, Meaning, WordNet, names_of, squash

SKIN_TONE = re.compile(r"-(light|medium|dark)(-skin-tone)?(-|$)")  # repeats of one picture; only the untoned one is kept
DULL = re.compile(  # folders of clip art that show nothing in particular, or one thing a hundred times
    "stars?/|jigsaw|flowchart|callouts|patterns|gradients|examples|duplicates|cards|folders|icons|theme|logos|signs_and|flags|arrows"
)
MOST_BYTES = 300_000  # of a piece of clip art, beyond which drawing takes longer than it is worth

COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
HUES = ((10, "red"), (22, "orange"), (40, "yellow"), (105, "green"), (180, "blue"), (205, "purple"), (240, "pink"), (256, "red"))


@dataclass(frozen=True)
class Pictographs:
    """`pixels` uint8 (N, size, size, 4), with transparency; picture i shows `meanings[i]` and answers to `captions[i]`."""

    pixels: np.ndarray
    meanings: list[Meaning]
    captions: list[list[str]]

    @cached_property
    def unseen(self) -> np.ndarray:
        """Pictures of the things whose names are never trained on: one name in thirty, by a hash of it."""
        drawn = [zlib.crc32(f"name {squash(meaning.label)}".encode()) % 30 == 0 for meaning in self.meanings]
        return np.flatnonzero(drawn)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Pictures that are never trained on, though others of the same name are: one in fifty."""
        chosen = np.random.default_rng(0).permutation(len(self.pixels))[: len(self.pixels) // 50]
        return np.setdiff1d(chosen, self.unseen)

    @cached_property
    def train(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.pixels)), np.union1d(self.held_out, self.unseen))

    def over_white(self, rows: np.ndarray) -> np.ndarray:
        """Pictures `rows` over white, uint8 (len(rows), size, size, 3)."""
        picked = self.pixels[rows].astype(np.uint16)
        alpha = picked[..., 3:]
        return ((picked[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)


def captions_of(meaning: Meaning, net: WordNet, sense: Key | None, colour: str | None) -> list[str]:
    """The texts that a picture answers to, its name most often. The draw depends on the name alone."""
    label = meaning.label
    draw = random.Random(label)
    words = [word for word in meaning.keywords if word.lower() != label.lower()]
    phrases = [label, label, label]  # the name itself is the likeliest caption
    phrases += [f"{article(label)} {label}", f"a picture of {article(label)} {label}", f"the {label} is shown in a drawing"]
    phrases += draw.sample(words, min(4, len(words)))
    for count in (2, 2, 3):
        if len(words) >= count:
            chosen = ", ".join(draw.sample(words, count))
            phrases += [f"{label}, {chosen}", chosen]
    if meaning.kind:
        phrases.append(meaning.kind)
    if sense is not None:
        synset, kinds = net.synsets[sense], net.kinds(sense, 2)
        phrases += [word for word in synset.words if word.lower() != label.lower()][:2]
        phrases += [synset.gloss, f"{label}: {synset.gloss}"]
        phrases += [f"{label}, {article(kind)} {kind}" for kind in kinds[:1]] + kinds
    if colour and not set(COLOURS) & set(label.lower().split()):
        phrases += [f"{colour} {label}", f"{article(colour)} {colour} {label}"]
    return phrases


def article(words: str) -> str:
    return "an" if words[:1].lower() in "aeiou" else "a"


def colour_of(pixels: np.ndarray) -> str | None:
    """The colour word for most of what shows in `pixels` (size, size, 4), if one holds for more than half of it."""
    hue, saturation, value = np.asarray(Image.fromarray(pixels[..., :3]).convert("HSV")).reshape(-1, 3).T.astype(int)
    shown = pixels[..., 3].reshape(-1) > 128
    if not shown.any():
        return None
    hue, saturation, value = hue[shown], saturation[shown], value[shown]
    names = np.array([name for _, name in HUES])[np.searchsorted([end for end, _ in HUES], hue, side="right")]
    names = np.where((names == "orange") & (value < 190), "brown", names)
    names = np.where((names == "red") & (saturation < 130) & (value > 180), "pink", names)
    names = np.where(saturation < 40, np.where(value > 215, "white", "grey"), names)
    names = np.where(value < 70, "black", names)
    words, counts = np.unique(names, return_counts=True)
    return str(words[counts.argmax()]) if counts.max() > shown.sum() / 2 else None


def draw(svg: str, size: int) -> np.ndarray | None:
    """`svg` as uint8 (size, size, 4), whole and in the middle; None for one that cannot be drawn, or shows next to nothing."""
    try:
        picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * size)))).convert("RGBA")
    except (ValueError, OSError):
        return None
    if not 1 / 4 < picture.width / picture.height < 4:
        return None
    picture.thumbnail((size, size), Image.Resampling.BOX)
    ground = Image.new("RGBA", (size, size), (255, 255, 255, 0))
    ground.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    pixels = np.asarray(ground)
    return pixels if (pixels[..., 3] > 128).mean() > 0.03 else None


def _emoji(source: Source, cache: Path, known: dict[str, Meaning]) -> Iterator[tuple[str, Meaning]]:
    for name, svg in _icons(source, cache):
        if SKIN_TONE.search(name):
            continue
        if squash(name) not in known and source.folder == "fxemoji":
            continue  # its names have no word boundaries, so without a match there is nothing to say
        yield svg, known.get(squash(name)) or known.get(squash(re.sub(r"-\d+$", "", name)), Meaning(_words(name)))


def _named(source: Source, cache: Path, known: dict[str, Meaning]) -> Iterator[tuple[str, Meaning]]:
    """Icons whose names say what they show; of several sizes of one, the largest."""
    sized: dict[str, tuple[int, str]] = {}
    for name, svg in _icons(source, cache):
        plain, _, number = name.rpartition("-")
        size = int(number) if source.folder == "fluent-color" and number.isdigit() else 0
        key = plain if size else name
        if size >= sized.get(key, (-1, ""))[0]:
            sized[key] = (size, svg)
    for name, (_, svg) in sorted(sized.items()):
        words = _words(name)
        yield svg, known.get(squash(words), Meaning(words))


def _clipart(source: Source, cache: Path, known: dict[str, Meaning]) -> Iterator[tuple[str, Meaning]]:
    """Drawings with a title and keywords of their own, filed in folders by what they show."""
    root = download(source, cache) / "usr" / "share" / "openclipart" / "svg"
    for path in sorted(root.rglob("*.svg")):
        where = str(path.relative_to(root))
        if DULL.search(where) or path.stat().st_size > MOST_BYTES:
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        title = re.search(r"<dc:title>([^<]*)</dc:title>", svg)
        subjects = [word.strip().lower().replace("_", " ") for word in re.findall(r"<rdf:li>([^<]*)</rdf:li>", svg)]
        label = _words(title.group(1)) if title else ""
        if len(label) < 3 or len(label.split()) > 5:
            label = next((word for word in subjects if word), "")
        folders = [part.replace("_", " ") for part in where.split("/")[:-1] if part != "unsorted"]
        keywords = tuple(word for word in dict.fromkeys([*subjects, *folders]) if 2 < len(word) < 30 and "unsorted" not in word)
        if label:
            found = known.get(squash(label))
            yield svg, Meaning(label, keywords, folders[-1] if folders else "", found.key if found else "")


def _icons(source: Source, cache: Path) -> Iterator[tuple[str, str]]:
    icons = json.loads((download(source, cache) / "icons.json").read_text())
    for name, icon in sorted(icons["icons"].items()):
        if icon.get("hidden"):
            continue
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        yield name, (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                     f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>')  # fmt: skip


def _words(name: str) -> str:
    """A name of several words, without numbers and signs: `cute_tiger_01` is `cute tiger`."""
    return " ".join(re.sub(r"[^A-Za-z' ]|\d", " ", name.replace("-", " ").replace("_", " ")).split()).lower()


def load(cache: Path, size: int) -> Pictographs:
    """All pictures at `size` pixels, drawn once and then read from `cache`."""
    store = cache / f"pictographs-{size}.npz"
    if not store.exists():
        known, net = names_of(cache), WordNet(cache)
        pixels, meanings, captions = [], [], []
        readers = {**dict.fromkeys(EMOJI, _emoji), **dict.fromkeys(ICONS, _named), CLIPART: _clipart}
        for source, read in readers.items():
            for svg, meaning in track(list(read(source, cache, known)), f"drawing {source.package}"):
                picture = draw(svg, size)
                if picture is not None and meaning.label:
                    pixels.append(picture)
                    meanings.append(meaning)
                    captions.append(captions_of(meaning, net, meaning.sense(net), colour_of(picture)))
        told = json.dumps([[[one.label, one.keywords, one.kind, one.key] for one in meanings], captions])
        partial = store.with_suffix(".partial.npz")
        np.savez_compressed(partial, pixels=np.stack(pixels), told=np.array(told))
        partial.rename(store)
    with np.load(store) as saved:
        rows, captions = json.loads(str(saved["told"]))
        return Pictographs(saved["pixels"], [Meaning(a, tuple(b), c, d) for a, b, c, d in rows], captions)
