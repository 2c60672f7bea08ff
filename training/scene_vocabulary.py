"""The vocabulary of the composed scenes: roles, numbers, actions, poses and places.

The sentences are templates that were written for this recipe, without the texts of any benchmark.
"""

from __future__ import annotations

from typing import NamedTuple

NUMBER_WORDS = {
    2: ("two", "a couple of", "a pair of"),
    3: ("three",),
    4: ("four",),
    5: ("five", "several"),
    6: ("six", "many", "a group of"),
}

# Names of people, and the labels of the drawings that can show them
PERSON_LABELS = {
    "man": ("man", "man walking", "man standing", "old man", "man: beard", "man running"),
    "woman": ("woman", "woman walking", "woman standing", "old woman", "woman running"),
    "boy": ("boy",), "girl": ("girl",), "child": ("child", "boy", "girl"), "baby": ("baby",),
    "person": ("person", "person walking", "person standing", "older person"),
    "doctor": ("health worker", "man health worker", "woman health worker"), "farmer": ("farmer", "man farmer", "woman farmer"),
    "cook": ("cook", "man cook", "woman cook"), "teacher": ("teacher", "man teacher", "woman teacher"),
    "soldier": ("guard", "man guard", "woman guard"), "police officer": ("police officer", "man police officer"),
    "singer": ("singer", "man singer", "woman singer"), "painter": ("artist", "man artist", "woman artist"),
}  # fmt: skip

# Roles, and the subgroups of emojibase whose drawings can play them
ROLE_SUBGROUPS: dict[str, tuple[str, ...]] = {
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

# Roles, and the labels of the drawings that can play them
ROLE_LABELS = {
    "ball": ("soccer ball", "basketball", "baseball", "volleyball", "american football", "tennis"), "horse": ("horse",),
    "bicycle": ("bicycle",), "motorcycle": ("motorcycle",), "car": ("automobile", "sport utility vehicle", "racing car"),
    "book": ("closed book", "open book", "blue book", "green book"), "phone": ("mobile phone", "telephone receiver"),
    "dog": ("dog", "poodle", "guide dog"), "cat": ("cat", "black cat"), "guitar": ("guitar",),
    "tree": ("deciduous tree", "evergreen tree"), "bed": ("bed",), "chair": ("chair",), "umbrella": ("umbrella",),
    "computer": ("laptop", "desktop computer"), "picture": ("framed picture",), "camera": ("camera",),
    "knife": ("kitchen knife",), "rope": ("knot",), "house": ("house", "hut"), "boat": ("sailboat", "canoe", "speedboat"),
    "skateboard": ("skateboard",), "flower": ("tulip", "rose", "sunflower", "hibiscus"),
    "microphone": ("microphone", "studio microphone"), "kite": ("kite",), "hat": ("top hat", "billed cap", "woman’s hat"),
}  # fmt: skip

# Roles that the noun of the role names more often than the label of the drawing
GENERAL_ROLES = ("bird", "fish", "animal", "vehicle", "building", "instrument")


class Action(NamedTuple):
    """What a subject does with an object.

    Attributes:
        subject: The role of the subject.
        verbs: Verb phrases, in which %s stands for the object.
        object: The role of the object.
        layout: The relative positions of the two drawings (see `scenes.compose_action`).
    """

    subject: str
    verbs: tuple[str, ...]
    object: str
    layout: str


class Pose(NamedTuple):
    """What a subject does without an object.

    Attributes:
        subject: The role of the subject.
        verbs: Verb phrases.
        layout: The position and rotation of the drawing (see `scenes.compose_pose`).
        place: The background, or an empty string.
    """

    subject: str
    verbs: tuple[str, ...]
    layout: str
    place: str


_ACTIONS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("person", ("eating %s", "having %s", "tasting %s"), "food", "held"),
    ("person", ("drinking from %s", "holding %s"), "drink", "held"),
    ("person", ("cooking %s", "preparing %s"), "food", "below"),
    ("person", ("cutting %s", "slicing %s"), "food", "below"),
    ("person", ("playing %s", "performing on %s"), "instrument", "held"),
    ("person", ("playing with %s", "kicking %s", "throwing %s", "catching %s"), "ball", "below"),
    ("person", ("riding %s", "sitting on %s"), "horse", "on"),
    ("person", ("riding %s",), "bicycle", "on"),
    ("person", ("riding %s",), "motorcycle", "on"),
    ("person", ("riding %s",), "skateboard", "on"),
    ("person", ("driving %s", "sitting in %s"), "car", "in"),
    ("person", ("rowing %s", "sailing %s"), "boat", "in"),
    ("person", ("reading %s", "holding %s"), "book", "held"),
    ("person", ("talking on %s", "using %s"), "phone", "held"),
    ("person", ("working on %s", "typing on %s"), "computer", "below"),
    ("person", ("sleeping in %s", "lying in %s"), "bed", "in"),
    ("person", ("sitting on %s",), "chair", "on"),
    ("person", ("holding %s", "walking under %s"), "umbrella", "over"),
    ("person", ("walking with %s", "playing with %s", "petting %s"), "dog", "beside"),
    ("person", ("feeding %s", "looking at %s", "watching %s"), "animal", "beside"),
    ("person", ("holding %s", "carrying %s", "selling %s", "buying %s"), "thing", "held"),
    ("person", ("singing into %s",), "microphone", "held"),
    ("person", ("taking a picture with %s",), "camera", "held"),
    ("person", ("painting %s", "looking at %s"), "picture", "beside"),
    ("person", ("flying %s",), "kite", "above"),
    ("person", ("wearing %s",), "hat", "over"),
    ("person", ("standing next to %s", "fixing %s", "washing %s"), "vehicle", "beside"),
    ("person", ("entering %s", "standing in front of %s", "leaving %s", "building %s"), "building", "before"),
    ("person", ("planting %s", "watering %s", "smelling %s"), "flower", "beside"),
    ("person", ("talking to %s", "meeting %s", "dancing with %s", "fighting with %s", "hugging %s"), "person", "beside"),
    ("animal", ("chasing %s", "running after %s", "looking at %s"), "animal", "beside"),
    ("animal", ("eating %s", "looking at %s"), "food", "below"),
    ("dog", ("playing with %s", "catching %s", "chasing %s"), "ball", "beside"),
    ("cat", ("playing with %s",), "ball", "beside"),
    ("cat", ("sleeping on %s", "lying on %s", "sitting on %s"), "bed", "on"),
    ("bird", ("sitting on %s", "landing on %s"), "tree", "above"),
    ("animal", ("climbing %s",), "tree", "before"),
)
ACTIONS = tuple(Action(*row) for row in _ACTIONS)

_POSES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("animal", ("sleeping", "lying down", "resting"), "lying", ""),
    ("person", ("lying down", "sleeping", "falling"), "lying", ""),
    ("animal", ("jumping", "leaping"), "high", "grass"),
    ("person", ("jumping",), "high", ""),
    ("mammal", ("running",), "leaning", "grass"),
    ("person", ("running",), "leaning", ""),
    ("bird", ("flying", "flying in the sky", "soaring"), "high", "sky"),
    ("aircraft", ("flying", "taking off", "in the air"), "high", "sky"),
    ("fish", ("swimming", "swimming in the water"), "middle", "water"),
    ("boat", ("sailing", "floating on the water"), "middle", "water"),
    ("vehicle", ("driving down the road", "parked on the road"), "low", "road"),
    ("mammal", ("standing in a field", "grazing", "walking in the grass"), "low", "grass"),
    ("person", ("swimming",), "low", "water"),
    ("thing", ("upside down", "turned over"), "over", ""),
    ("thing", ("rising", "going up"), "high", ""),
    ("thing", ("dropping", "going down"), "low", ""),
)
POSES = tuple(Pose(*row) for row in _POSES)

# Places, and phrases for them
PLACES = {
    "grass": ("in the grass", "on the grass", "in a green field", "in the park"),
    "snow": ("in the snow", "on a snowy day", "in winter"),
    "sand": ("on the beach", "in the sand", "in the desert"),
    "water": ("in the water", "at sea", "in the lake"),
    "sky": ("in the sky", "against a blue sky"),
    "night": ("at night", "in the dark", "under the moon"),
    "rain": ("in the rain", "on a rainy day"),
    "road": ("on the road", "in the street"),
    "fire": ("on fire", "burning", "in flames"),
    "room": ("in a room", "inside", "on the floor"),
    "forest": ("in the forest", "among trees", "in the woods"),
    "city": ("in the city", "in town", "in front of buildings"),
    "sun": ("in the sun", "on a sunny day", "on a bright day"),
}

# Words that exclude a drawing from scenes when its label contains them: drawings of signs and parts
EXCLUDED_LABEL_WORDS = (
    "button", "construction", "barrier", "stop", "station", "traffic light", "fuel", "tram car", "anchor", "seat", "coral",
)  # fmt: skip
