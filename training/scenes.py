"""Composed scenes: several things, counts, colours, sizes, places, relations and actions, so that such words have something to look at.

A scene is put together from the training pictures alone, and says what it shows in a few ways. Scene i depends on (seed, i) alone.
Sentences are templates of our own; no text of any benchmark was used or looked at for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from pictographs import COLOURS, Pictographs, article
from words import squash

NUMBERS = {
    2: ("two", "a couple of", "a pair of"),
    3: ("three",),
    4: ("four",),
    5: ("five", "several"),
    6: ("six", "many", "a group of"),
}
TELLINGS = 2  # of the ways in which a scene can be told, how many it gets
SIZES = {"large": ("big", "large", "huge"), "small": ("small", "little", "tiny")}
PERSONS = {
    "man": ("man", "man walking", "man standing", "old man", "man: beard", "man running"),
    "woman": ("woman", "woman walking", "woman standing", "old woman", "woman running"),
    "boy": ("boy",), "girl": ("girl",), "child": ("child", "boy", "girl"), "baby": ("baby",),
    "person": ("person", "person walking", "person standing", "older person"),
    "doctor": ("health worker", "man health worker", "woman health worker"), "farmer": ("farmer", "man farmer", "woman farmer"),
    "cook": ("cook", "man cook", "woman cook"), "teacher": ("teacher", "man teacher", "woman teacher"),
    "soldier": ("guard", "man guard", "woman guard"), "police officer": ("police officer", "man police officer"),
    "singer": ("singer", "man singer", "woman singer"), "painter": ("artist", "man artist", "woman artist"),
}  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {  # roles by emojibase's subgroups
    "animal": ("animal-mammal", "animal-bird", "animal-reptile", "animal-amphibian", "animal-marine", "animal-bug"),
    "bird": ("animal-bird",), "fish": ("animal-marine",), "mammal": ("animal-mammal",),
    "food": ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet"),
    "drink": ("drink",), "instrument": ("musical-instrument",), "clothes": ("clothing",), "tool": ("tool",),
    "vehicle": ("transport-ground",), "boat": ("transport-water",), "aircraft": ("transport-air",),
    "plant": ("plant-flower", "plant-other"), "building": ("place-building", "place-religious"), "thing": (
        "household", "tool", "office", "book-paper", "computer", "phone", "music", "light-video", "clothing", "game", "sport",
        "dishware", "money", "medical", "science", "writing", "lock", "time", "mail", "arts-crafts",
    ),
}  # fmt: skip
NAMED = {  # things that verbs and places ask for, by label
    "ball": ("soccer ball", "basketball", "baseball", "volleyball", "american football", "tennis"), "horse": ("horse",),
    "bicycle": ("bicycle",), "motorcycle": ("motorcycle",), "car": ("automobile", "sport utility vehicle", "racing car"),
    "book": ("closed book", "open book", "blue book", "green book"), "phone": ("mobile phone", "telephone receiver"),
    "dog": ("dog", "poodle", "guide dog"), "cat": ("cat", "black cat"), "guitar": ("guitar",), "tree": ("deciduous tree", "evergreen tree"),
    "bed": ("bed",), "chair": ("chair",), "umbrella": ("umbrella",), "computer": ("laptop", "desktop computer"),
    "picture": ("framed picture",), "camera": ("camera",), "knife": ("kitchen knife",), "rope": ("knot",), "house": ("house", "hut"),
    "boat": ("sailboat", "canoe", "speedboat"), "skateboard": ("skateboard",), "flower": ("tulip", "rose", "sunflower", "hibiscus"),
    "microphone": ("microphone", "studio microphone"), "kite": ("kite",), "hat": ("top hat", "billed cap", "woman’s hat"),
}  # fmt: skip
# subject, verbs, object, how the two stand; %s is the object
ACTIONS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("person", ("eating %s", "having %s", "tasting %s"), "food", "held"),
    ("person", ("drinking from %s", "holding %s"), "drink", "held"),
    ("person", ("cooking %s", "preparing %s"), "food", "below"),
    ("person", ("cutting %s", "slicing %s"), "food", "below"),
    ("person", ("playing %s", "performing on %s"), "instrument", "held"),
    ("person", ("playing with %s", "kicking %s", "throwing %s", "catching %s"), "ball", "below"),
    ("person", ("riding %s", "sitting on %s"), "horse", "on"), ("person", ("riding %s",), "bicycle", "on"),
    ("person", ("riding %s",), "motorcycle", "on"), ("person", ("riding %s",), "skateboard", "on"),
    ("person", ("driving %s", "sitting in %s"), "car", "in"), ("person", ("rowing %s", "sailing %s"), "boat", "in"),
    ("person", ("reading %s", "holding %s"), "book", "held"), ("person", ("talking on %s", "using %s"), "phone", "held"),
    ("person", ("working on %s", "typing on %s"), "computer", "below"), ("person", ("sleeping in %s", "lying in %s"), "bed", "in"),
    ("person", ("sitting on %s",), "chair", "on"), ("person", ("holding %s", "walking under %s"), "umbrella", "over"),
    ("person", ("walking with %s", "playing with %s", "petting %s"), "dog", "beside"),
    ("person", ("feeding %s", "looking at %s", "watching %s"), "animal", "beside"),
    ("person", ("holding %s", "carrying %s", "selling %s", "buying %s"), "thing", "held"),
    ("person", ("singing into %s",), "microphone", "held"), ("person", ("taking a picture with %s",), "camera", "held"),
    ("person", ("painting %s", "looking at %s"), "picture", "beside"), ("person", ("flying %s",), "kite", "above"),
    ("person", ("wearing %s",), "hat", "over"), ("person", ("standing next to %s", "fixing %s", "washing %s"), "vehicle", "beside"),
    ("person", ("entering %s", "standing in front of %s", "leaving %s", "building %s"), "building", "before"),
    ("person", ("planting %s", "watering %s", "smelling %s"), "flower", "beside"),
    ("person", ("talking to %s", "meeting %s", "dancing with %s", "fighting with %s", "hugging %s"), "person", "beside"),
    ("animal", ("chasing %s", "running after %s", "looking at %s"), "animal", "beside"),
    ("animal", ("eating %s", "looking at %s"), "food", "below"), ("dog", ("playing with %s", "catching %s", "chasing %s"), "ball", "beside"),
    ("cat", ("playing with %s",), "ball", "beside"), ("cat", ("sleeping on %s", "lying on %s", "sitting on %s"), "bed", "on"),
    ("bird", ("sitting on %s", "landing on %s"), "tree", "above"), ("animal", ("climbing %s",), "tree", "before"),
)  # fmt: skip
# alone: subject, what it does, how it is drawn, where
POSES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("animal", ("sleeping", "lying down", "resting"), "lying", ""), ("person", ("lying down", "sleeping", "falling"), "lying", ""),
    ("animal", ("jumping", "leaping"), "high", "grass"), ("person", ("jumping",), "high", ""), ("mammal", ("running",), "leaning", "grass"),
    ("person", ("running",), "leaning", ""), ("bird", ("flying", "flying in the sky", "soaring"), "high", "sky"),
    ("aircraft", ("flying", "taking off", "in the air"), "high", "sky"), ("fish", ("swimming", "swimming in the water"), "middle", "water"),
    ("boat", ("sailing", "floating on the water"), "middle", "water"), ("vehicle", ("driving down the road", "parked on the road"), "low", "road"),
    ("mammal", ("standing in a field", "grazing", "walking in the grass"), "low", "grass"), ("person", ("swimming",), "low", "water"),
    ("thing", ("upside down", "turned over"), "over", ""), ("thing", ("rising", "going up"), "high", ""), ("thing", ("dropping", "going down"), "low", ""),
)  # fmt: skip
PLACES = {
    "grass": ("in the grass", "on the grass", "in a green field", "in the park"), "snow": ("in the snow", "on a snowy day", "in winter"),
    "sand": ("on the beach", "in the sand", "in the desert"), "water": ("in the water", "at sea", "in the lake"),
    "sky": ("in the sky", "against a blue sky"), "night": ("at night", "in the dark", "under the moon"),
    "rain": ("in the rain", "on a rainy day"), "road": ("on the road", "in the street"), "fire": ("on fire", "burning", "in flames"),
    "room": ("in a room", "inside", "on the floor"), "forest": ("in the forest", "among trees", "in the woods"),
    "city": ("in the city", "in town", "in front of buildings"), "sun": ("in the sun", "on a sunny day", "on a bright day"),
}  # fmt: skip


@dataclass
class Stock:
    """The training pictures by what they can be: `rows[role]` are their numbers."""

    data: Pictographs
    rows: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        usable = [row for row in self.data.train if self.data.meanings[row].key and self._plain(row)]
        by_label: dict[str, list[int]] = {}
        for row in usable:
            by_label.setdefault(squash(self.data.meanings[row].label), []).append(int(row))
        for role, keys in KINDS.items():
            self.rows[role] = np.array([row for row in usable if self.data.meanings[row].key in keys])
        for role, labels in NAMED.items():
            self.rows.setdefault(role, np.array([row for label in labels for row in by_label.get(squash(label), [])], dtype=int))
        self.persons = {name: np.array([row for label in labels for row in by_label.get(squash(label), [])], dtype=int)
                        for name, labels in PERSONS.items()}  # fmt: skip
        self.persons = {name: rows for name, rows in self.persons.items() if len(rows)}
        self.rows = {role: rows for role, rows in self.rows.items() if len(rows)}
        there = {"person", *self.rows}  # a role may have no picture left, where its name is held out
        self.actions = [action for action in ACTIONS if {action[0], action[2]} <= there]
        self.poses = [pose for pose in POSES if pose[0] in there]

    def _plain(self, row: int) -> bool:
        label = self.data.meanings[row].label
        odd = (
            "button",
            "construction",
            "barrier",
            "stop",
            "station",
            "traffic light",
            "fuel",
            "tram car",
            "anchor",
            "seat",
            "coral",
        )
        return ":" not in label and len(label.split()) <= 3 and not any(word in label for word in odd)

    def pick(self, role: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A picture (size, size, 4) that can be `role`, and a noun for it."""
        if role == "person":
            name = str(rng.choice(list(self.persons)))
            return self.data.pixels[rng.choice(self.persons[name])], name
        row = int(rng.choice(self.rows[role]))
        label = self.data.meanings[row].label
        general = role in NAMED or (
            role in ("bird", "fish", "animal", "vehicle", "building", "instrument") and rng.random() < 0.15
        )
        return self.data.pixels[row], role if general else _short(label)


def _short(label: str) -> str:
    return label.removesuffix(" face").removesuffix(" bread")


def compose(stock: Stock, size: int, seed: int, number: int) -> tuple[np.ndarray, list[str]]:
    """Scene `number`: a picture uint8 (size, size, 3) and captions."""
    rng = np.random.default_rng((seed, number))
    kinds: tuple[tuple[Callable[..., tuple[np.ndarray, list[str]]], float], ...] = (
        (_action, 0.28), (_pose, 0.14), (_place, 0.14), (_relation, 0.16), (_count, 0.1), (_look, 0.18),
    )  # fmt: skip
    makers, weights = zip(*kinds, strict=True)
    canvas, told = makers[rng.choice(len(makers), p=np.array(weights) / sum(weights))](stock, size, rng)
    return canvas, [told[i] for i in rng.permutation(len(told))[:TELLINGS]]


def _action(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    who, verbs, what, how = stock.actions[rng.integers(len(stock.actions))]
    (subject, name), (thing, other) = stock.pick(who, rng), stock.pick(what, rng)
    place = str(rng.choice(list(PLACES))) if rng.random() < 0.3 else ""
    canvas = ground(place, size, rng)
    side = 1 if rng.random() < 0.5 else -1
    spots = {  # middle and size of subject and thing, in shares of the picture; the thing in front unless it is before
        "held": ((0.5 - 0.08 * side, 0.48, 0.8), (0.5 + 0.22 * side, 0.66, 0.42)), "below": ((0.5, 0.36, 0.68), (0.5, 0.79, 0.42)),
        "on": ((0.5, 0.3, 0.52), (0.5, 0.68, 0.62)), "in": ((0.5, 0.36, 0.5), (0.5, 0.64, 0.72)),
        "over": ((0.5, 0.62, 0.68), (0.5, 0.22, 0.46)), "beside": ((0.5 - 0.25 * side, 0.52, 0.52), (0.5 + 0.25 * side, 0.56, 0.48)),
        "above": ((0.5, 0.7, 0.5), (0.5 + 0.15 * side, 0.26, 0.46)), "before": ((0.5 + 0.12 * side, 0.68, 0.5), (0.5, 0.46, 0.86)),
    }[how]  # fmt: skip
    order = [(thing, spots[1]), (subject, spots[0])] if how == "before" else [(subject, spots[0]), (thing, spots[1])]
    for picture, spot in order:
        paste(canvas, picture, *spot)
    verb = str(rng.choice(verbs))
    where = f" {rng.choice(PLACES[place])}" if place else ""
    told = verb.replace("%s", f"{a(other)}")
    return canvas, [
        f"{a(name)} is {told}{where}".capitalize() + ".",
        f"{a(name)} {told}{where}",
        f"the {name} is {verb.replace('%s', f'the {other}')}{where}",
        f"someone is {told}" if who == "person" else f"an animal is {told}",
    ]


def _pose(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    who, doings, how, place = stock.poses[rng.integers(len(stock.poses))]
    picture, name = stock.pick(who, rng)
    turn = {"lying": 90, "leaning": -18, "over": 180}.get(how, 0)
    canvas = ground(place, size, rng)
    paste(canvas, picture, 0.5, {"high": 0.3, "low": 0.7, "lying": 0.66}.get(how, 0.52), 0.56, turn=turn)
    doing = str(rng.choice(doings))
    return canvas, [
        f"{a(name)} {doing}",
        f"{a(name)} is {doing}".capitalize() + ".",
        f"the {name} is {doing}",
        doing,
    ]


def _place(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    place = str(rng.choice(list(PLACES)))
    picture, name = stock.pick(str(rng.choice(["animal", "person", "vehicle", "thing", "building", "plant"])), rng)
    canvas = ground(place, size, rng)
    paste(canvas, picture, rng.uniform(0.38, 0.62), 0.6, rng.uniform(0.5, 0.7))
    where = str(rng.choice(PLACES[place]))
    return canvas, [
        f"{a(name)} {where}",
        f"there is {a(name)} {where}",
        f"the {name} is {where}",
        f"{name} {where}",
    ]


def _relation(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    roles = ["animal", "person", "vehicle", "thing", "food", "plant", "building", "clothes", "tool"]
    (one, name), (two, other) = (stock.pick(str(rng.choice(roles)), rng) for _ in range(2))
    canvas = ground(str(rng.choice(list(PLACES))) if rng.random() < 0.15 else "", size, rng)
    relations = {
        "beside": (("and", "next to", "beside", "near", "with"), (0.27, 0.5, 0.5), (0.73, 0.5, 0.5)),
        "left": (("to the left of", "left of"), (0.25, 0.5, 0.48), (0.75, 0.5, 0.48)),
        "right": (("to the right of", "right of"), (0.75, 0.5, 0.48), (0.25, 0.5, 0.48)),
        "above": (("above", "over"), (0.5, 0.25, 0.48), (0.5, 0.75, 0.48)),
        "below": (("below", "under", "beneath"), (0.5, 0.75, 0.48), (0.5, 0.25, 0.48)),
        "on": (("on", "on top of"), (0.5, 0.3, 0.46), (0.5, 0.7, 0.6)), "in": (("in", "inside"), (0.5, 0.52, 0.34), (0.5, 0.5, 0.92)),
        "front": (("in front of",), (0.5, 0.66, 0.5), (0.5, 0.44, 0.8)), "behind": (("behind",), (0.5, 0.36, 0.7), (0.5, 0.7, 0.52)),
        "far": (("far from", "away from"), (0.14, 0.5, 0.28), (0.86, 0.5, 0.28)),
        "bigger": (("bigger than", "larger than"), (0.36, 0.5, 0.7), (0.84, 0.72, 0.3)),
        "smaller": (("smaller than",), (0.16, 0.72, 0.3), (0.64, 0.5, 0.7)),
    }  # fmt: skip
    kind = str(rng.choice(list(relations)))
    words, here, there = relations[kind]
    for picture, spot in ((one, here), (two, there)) if kind == "behind" else ((two, there), (one, here)):
        paste(canvas, picture, *spot)
    word = str(rng.choice(words))
    return canvas, [
        f"{a(name)} {word} {a(other)}",
        f"the {name} is {word} the {other}" if word not in ("and", "with") else f"a picture of {a(name)} {word} {a(other)}",
        f"there is {a(name)} {word} {a(other)}",
    ]


def _count(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    number = int(rng.integers(1, 7))
    picture, name = stock.pick(str(rng.choice(["animal", "person", "food", "thing", "vehicle", "plant"])), rng)
    canvas = ground("", size, rng)
    grid = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2), 6: (3, 2)}[number]
    spots = [((i % grid[0] + 0.5) / grid[0], (i // grid[0] + 0.5) / grid[1]) for i in range(number)]
    for x, y in spots:
        paste(canvas, picture, x, y, 0.9 / max(grid) if number > 1 else 0.5)
    if number == 1:
        return canvas, [f"one {name}", f"a single {name}", f"only one {name}"]
    word = str(rng.choice(NUMBERS[number]))
    return canvas, [
        f"{word} {plural(name)}",
        f"there are {word} {plural(name)}",
        f"{NUMBERS[number][0]} {plural(name)} side by side",
    ]


def _look(stock: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """One thing and how it looks: colour, size, shape, light."""
    picture, name = stock.pick(
        str(rng.choice(["animal", "vehicle", "thing", "food", "building", "clothes", "plant", "person"])), rng
    )
    canvas = ground("", size, rng)
    colour = str(rng.choice(COLOURS))
    looks: dict[tuple[str, ...], tuple[float, float, float, int]] = {
        ("big", "large", "huge", "giant", "enormous"): (1.0, 1.0, 1.0, 0), ("small", "little", "tiny", "miniature"): (0.26, 1.0, 1.0, 0),
        ("tall", "high", "long"): (0.9, 0.45, 1.0, 0), ("wide", "short", "low", "fat"): (0.9, 1.0, 0.45, 0), ("thin", "narrow", "slim"): (0.8, 0.25, 1.0, 0),
        ("tilted", "crooked", "leaning"): (0.7, 1.0, 1.0, 30),
    }  # fmt: skip
    lights = {("dark", "dim", "gloomy"): 0.35, ("bright", "shiny", "pale", "light"): 1.6, ("faded", "faint", "transparent"): 0.0}
    adjectives: list[str] = []
    share, wide, high, turn = 0.75, 1.0, 1.0, 0
    if rng.random() < 0.5:
        picture = recoloured(picture, colour)
        adjectives.append(colour)
    elif rng.random() < 0.3:
        words = list(lights)[rng.integers(len(lights))]
        picture = lit(picture, lights[words])
        adjectives.append(str(rng.choice(words)))
    if not adjectives or rng.random() < 0.4:
        words = list(looks)[rng.integers(len(looks))]
        share, wide, high, turn = looks[words]
        adjectives.insert(0, str(rng.choice(words)))
    paste(canvas, picture, 0.5, 0.5, share, wide=wide, high=high, turn=turn)
    told = " ".join(adjectives)
    return canvas, [
        f"{told} {name}",
        f"{a(told)} {name}",
        f"the {name} is {' and '.join(adjectives)}",
        f"something {told}",
    ]


def a(noun: str) -> str:
    """`noun` with its article, if it takes one: a dog, an old car, cherries."""
    many = (noun.endswith("s") and not noun.endswith(("ss", "us"))) or noun.split()[-1] in ("men", "women", "children", "people")
    return noun if many else f"{article(noun)} {noun}"


def plural(noun: str) -> str:
    """The plural of an English noun phrase, as far as its ending tells."""
    known = {"man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice", "goose": "geese", "sheep": "sheep",
             "fish": "fish", "deer": "deer", "knife": "knives", "wolf": "wolves", "leaf": "leaves", "loaf": "loaves"}  # fmt: skip
    head, _, last = noun.rpartition(" ")
    if last in known:
        last = known[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "" if last.endswith("s") and not last.endswith("ss") else "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def paste(
    canvas: np.ndarray, picture: np.ndarray, x: float, y: float, share: float, *, wide: float = 1, high: float = 1, turn: int = 0
) -> None:
    """Lay `picture` (size, size, 4) over `canvas` (size, size, 3), its middle at x, y and its side `share` of the canvas'."""
    size = len(canvas)
    image = Image.fromarray(picture).resize(
        (max(1, round(size * share * wide)), max(1, round(size * share * high))), Image.Resampling.BOX
    )
    image = image.rotate(turn, Image.Resampling.BILINEAR, expand=True) if turn else image
    ground = Image.fromarray(canvas)
    ground.paste(image, (round(size * x - image.width / 2), round(size * y - image.height / 2)), image)
    canvas[:] = np.asarray(ground)


def recoloured(picture: np.ndarray, colour: str) -> np.ndarray:
    """`picture` (size, size, 4) in shades of `colour`, its lights and darks kept."""
    hue = {"red": 0, "orange": 20, "brown": 16, "yellow": 36, "green": 85, "blue": 155, "purple": 192, "pink": 230}
    light = np.asarray(Image.fromarray(picture[..., :3]).convert("L"), dtype=float)
    if colour in hue:
        saturation = {"brown": 170, "pink": 110}.get(colour, 215)
        value = {"brown": 0.35 * light + 60, "pink": 0.3 * light + 178}.get(colour, 0.55 * light + 110)
        parts = [np.full_like(light, hue[colour]), np.full_like(light, saturation), value]
        shown = np.asarray(
            Image.merge("HSV", [Image.fromarray(part.clip(0, 255).astype(np.uint8)) for part in parts]).convert("RGB")
        )
    else:
        value = {"black": 0.3 * light, "grey": 0.3 * light + 90, "white": 0.25 * light + 190}[colour]
        shown = np.repeat(value.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.concatenate([shown, picture[..., 3:]], axis=2)


def lit(picture: np.ndarray, light: float) -> np.ndarray:
    """`picture` darker (below 1) or brighter; 0 makes it faint."""
    shown, alpha = picture[..., :3].astype(float), picture[..., 3:]
    if light == 0:
        return np.concatenate([picture[..., :3], alpha // 3], axis=2)
    shown = shown * light if light < 1 else 255 - (255 - shown) / light
    return np.concatenate([shown.clip(0, 255).astype(np.uint8), alpha], axis=2)


def ground(place: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """An empty picture of `place`, uint8 (size, size, 3); white for none."""
    canvas = np.full((size, size, 3), 255, dtype=np.uint8)
    horizon = round(size * rng.uniform(0.5, 0.68))

    def shade(rgb: Sequence[int]) -> np.ndarray:
        return (np.array(rgb) + rng.integers(-14, 15, 3)).clip(0, 255).astype(np.uint8)

    upper = {"night": (24, 28, 66), "rain": (150, 160, 172), "sky": (135, 195, 240), "water": (175, 215, 245), "fire": (70, 30, 25),
             "room": (232, 214, 188), "forest": (196, 226, 190), "city": (190, 206, 222), "snow": (205, 222, 238), "sun": (150, 208, 246),
             "grass": (176, 218, 246), "sand": (160, 212, 244), "road": (196, 214, 228)}  # fmt: skip
    lower = {"grass": (96, 176, 72), "snow": (246, 249, 253), "sand": (234, 206, 142), "water": (44, 118, 190), "road": (104, 104, 110),
             "room": (164, 118, 78), "forest": (66, 128, 58), "city": (134, 134, 140), "sun": (140, 196, 90), "night": (38, 46, 54),
             "rain": (110, 126, 120)}  # fmt: skip
    if place in upper:
        canvas[:] = shade(upper[place])
    if place in lower:
        canvas[horizon:] = shade(lower[place])
    marks = {
        "snow": ((255, 255, 255), 40, 1),
        "rain": ((84, 124, 190), 44, 4),
        "night": ((250, 246, 200), 16, 1),
        "fire": ((250, 150, 30), 60, 5),
    }
    if place in marks:
        colour, many, tall = marks[place]
        for x, y in zip(rng.integers(0, size - 1, many), rng.integers(0, size - tall, many), strict=True):
            canvas[y : y + tall, x : x + (2 if place == "fire" else 1)] = colour
    if place in ("forest", "city"):
        for x in range(0, size, size // 6):
            top = int(rng.integers(size // 8, horizon - size // 8))
            canvas[top:horizon, x : x + size // 9] = shade((92, 64, 40) if place == "forest" else (120, 128, 144))
            if place == "forest":
                canvas[max(0, top - size // 10) : top + size // 8, max(0, x - 3) : x + size // 9 + 3] = shade((48, 110, 48))
    if place in ("sun", "night"):
        y, x = np.mgrid[:size, :size]
        canvas[(x - size * 0.82) ** 2 + (y - size * 0.17) ** 2 < (size * 0.1) ** 2] = (
            (255, 214, 60) if place == "sun" else (244, 240, 214)
        )
    if place == "road":
        canvas[(horizon + size) // 2 - 1 : (horizon + size) // 2 + 1, ::1] = 230
    return canvas
