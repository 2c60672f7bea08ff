"""The training pictures: open-licence colour pictographs, drawn over white, with the words people file them under.

Sources are npm packages at pinned versions, checked against the registry's SHA-512. Share-alike sets are left out, so that
the weights stay free to use. One picture is a row `(pixels, emoji)`; one emoji has several captions (name, keywords and
plain phrases around them), and training draws one of them for every view of a picture.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
import torch
from PIL import Image
from rich.progress import track

REGISTRY = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")


@dataclass(frozen=True)
class Source:
    """One npm package: what it is, whose it is, and the hash that its archive must have."""

    package: str
    version: str
    licence: str
    author: str
    sha512: str

    @property
    def folder(self) -> str:
        return self.package.split("/")[-1]

    @property
    def url(self) -> str:
        return f"{REGISTRY}/{self.package}/-/{self.folder}-{self.version}.tgz"


PICTURES = (
    Source("@iconify-json/noto", "1.2.9", "Apache-2.0", "Google Inc",
           "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="),
    Source("@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google Inc",
           "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA=="),
    Source("@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla",
           "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ=="),
    Source("@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft Corporation",
           "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA=="),
    Source("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft Corporation",
           "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw=="),
    Source("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twitter and other contributors",
           "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw=="),
    Source("@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "EmojiTwo",
           "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg=="),
)  # fmt: skip
NAMES = Source("emojibase-data", "17.0.0", "MIT", "Miles Johnson",
               "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==")  # fmt: skip

SKIN_TONE = re.compile(r"-(light|medium|dark)(-skin-tone)?(-|$)")  # repeats of one picture; only the untoned one is kept


def squash(name: str) -> str:
    """`name` without case, spaces and punctuation: the packages spell one name in several ways."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def download(source: Source, cache: Path) -> Path:
    """The unpacked package of `source` under `cache`; an archive whose hash is another is refused."""
    folder = cache / f"{source.folder}-{source.version}"
    if not folder.exists():
        archive = urllib.request.urlopen(source.url, timeout=120).read()
        got = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        if got != source.sha512:
            raise ValueError(f"{source.url} has SHA-512 {got}, but {source.sha512} is pinned")
        partial = folder.with_suffix(".partial")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(partial, filter="data")
        partial.rename(folder)  # last, so that a stopped download is not taken for a whole one
    return folder / "package"


@dataclass(frozen=True)
class Meaning:
    """What emojibase knows of a pictograph: its name, its keywords, and the kind of thing it is filed under."""

    label: str
    keywords: tuple[str, ...] = ()
    kind: str = ""


def names_of(cache: Path) -> dict[str, Meaning]:
    """What a squashed icon name means, from emojibase and from the code points that some packages list."""
    root = download(NAMES, cache) / "en"
    known: dict[str, Meaning] = {}
    by_code: dict[str, Meaning] = {}
    kinds = {kind["order"]: kind["message"] for kind in json.loads((root / "messages.json").read_text())["subgroups"]}
    for entry in json.loads((root / "data.json").read_text()):
        label = entry["label"].replace("“", "").replace("”", "")
        meaning = Meaning(label, tuple(entry.get("tags", ())), kinds.get(entry.get("subgroup"), ""))
        by_code[entry["hexcode"].replace("-FE0F", "").lower()] = meaning
    for path in sorted((root / "shortcodes").glob("*.json")):
        for code, names in json.loads(path.read_text()).items():
            if found := by_code.get(code.replace("-FE0F", "").lower()):
                for name in [names] if isinstance(names, str) else names:
                    known.setdefault(squash(name), found)
    for source in PICTURES:
        for code, name in json.loads((download(source, cache) / "chars.json").read_text()).items():
            if found := by_code.get(code.replace("-fe0f", "")):
                known[squash(name)] = found
    known.update({squash(meaning.label): meaning for meaning in by_code.values()})
    return known


def captions_of(meaning: Meaning) -> list[str]:
    """The texts that a pictograph answers to, its name most often. The draw depends on the name alone."""
    label = meaning.label
    draw = random.Random(label)
    words = [word for word in meaning.keywords if word.lower() != label.lower()]
    phrases = [label, label, label]  # the name itself is the likeliest caption
    phrases += [f"a {label}", f"a picture of a {label}", f"the {label} is shown in a drawing"]
    phrases += draw.sample(words, min(4, len(words)))
    for count in (2, 2, 3):
        if len(words) >= count:
            chosen = ", ".join(draw.sample(words, count))
            phrases += [f"{label}, {chosen}", chosen]
    return [*phrases, meaning.kind] if meaning.kind else phrases


COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
HUES = ((10, "red"), (22, "orange"), (40, "yellow"), (105, "green"), (180, "blue"), (205, "purple"), (240, "pink"), (256, "red"))


def colour_of(pixels: np.ndarray) -> str | None:
    """The colour word for most of what is not the white ground, if one holds for more than half of it."""
    hue, saturation, value = np.asarray(Image.fromarray(pixels).convert("HSV")).reshape(-1, 3).T.astype(int)
    shown = (value < 245) | (saturation > 25)
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


def draw(svg: str, size: int) -> np.ndarray:
    """`svg` over white as uint8 of shape (size, size, 3)."""
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))).convert("RGBA")
    ground = Image.new("RGBA", (size, size), "white")
    ground.alpha_composite(picture.resize((size, size)))
    return np.asarray(ground.convert("RGB"))


@dataclass(frozen=True)
class Pictographs:
    """`pixels` uint8 (N, size, size, 3); `labels[i]` names picture i, and `captions[i]` are the texts it answers to."""

    pixels: np.ndarray
    labels: list[str]
    captions: list[list[str]]

    @property
    def held_out(self) -> np.ndarray:
        """Numbers of the pictures that are never trained on: one in fifty. Other sets still show the same things."""
        return np.random.default_rng(0).permutation(len(self.pixels))[: len(self.pixels) // 50]

    @property
    def train(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.pixels)), self.held_out)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Pictures `rows` as float (len(rows), 3, size, size) in -1..1."""
        return torch.from_numpy(self.pixels[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> Pictographs:
    """All pictures at `size` pixels, drawn once and then read from `cache`."""
    store = cache / f"pictographs-{size}.npz"
    if not store.exists():
        known = names_of(cache)
        pixels, labels, captions = [], [], []
        for source in PICTURES:
            icons = json.loads((download(source, cache) / "icons.json").read_text())
            for name, icon in track(sorted(icons["icons"].items()), f"drawing {source.package}"):
                if SKIN_TONE.search(name) or icon.get("hidden"):
                    continue
                if squash(name) not in known and source.folder == "fxemoji":
                    continue  # its names have no word boundaries, so without a match there is nothing to say
                meaning = known.get(squash(name), Meaning(name.replace("-", " ")))
                width = icon.get("width", icons.get("width", 16))
                height = icon.get("height", icons.get("height", 16))
                svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                       f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>')  # fmt: skip
                pixels.append(draw(svg, size))
                labels.append(meaning.label)
                captions.append(captions_of(meaning))
                colour = colour_of(pixels[-1])
                if colour and not set(COLOURS) & set(meaning.label.lower().split()):
                    captions[-1] += [f"{colour} {meaning.label}", f"a {colour} {meaning.label}"]
        partial = store.with_suffix(".partial.npz")
        np.savez(partial, pixels=np.stack(pixels), labels=np.array(labels), captions=np.array(json.dumps(captions)))
        partial.rename(store)
    with np.load(store) as saved:
        return Pictographs(saved["pixels"], saved["labels"].tolist(), json.loads(str(saved["captions"])))
