"""Composed scenes: images of several drawings that show counts, colours, sizes, places, spatial relations and actions.

A scene consists of training drawings only, and has captions that describe it. Scene i depends on (seed, i) alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from grammar import plural, with_article
from pictographs import COLOURS
from scene_drawing import change_brightness, draw_background, paste, recolour
from scene_roles import RoleIndex
from scene_vocabulary import NUMBER_WORDS, PLACES

CAPTIONS_PER_SCENE = 2  # of those that describe it

Spot = tuple[float, float, float]  # x and y of a drawing's centre and its side, as shares of the image's side
Scene = tuple[np.ndarray, list[str]]  # pixels, uint8 of shape (size, size, 3), and captions


def compose(roles: RoleIndex, size: int, seed: int, number: int) -> Scene:
    """Return the pixels and captions of scene `number`.

    Args:
        roles: The drawings to compose scenes of.
        size: The pixels per side of the image.
        seed: The seed of all scenes.
        number: The number of the scene.

    Returns:
        The pixels, uint8 of shape (size, size, 3), and `CAPTIONS_PER_SCENE` captions.
    """
    rng = np.random.default_rng((seed, number))
    composers: tuple[tuple[Callable[[RoleIndex, int, np.random.Generator], Scene], float], ...] = (
        (compose_action, 0.28), (compose_pose, 0.14), (compose_place, 0.14), (compose_relation, 0.16), (compose_count, 0.1),
        (compose_appearance, 0.18),
    )  # fmt: skip
    functions, weights = zip(*composers, strict=True)
    canvas, captions = functions[rng.choice(len(functions), p=np.array(weights) / sum(weights))](roles, size, rng)
    return canvas, [captions[i] for i in rng.permutation(len(captions))[:CAPTIONS_PER_SCENE]]


def compose_action(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene in which a subject does something with an object, sometimes at a place."""
    action = roles.actions[rng.integers(len(roles.actions))]
    subject, subject_noun = roles.sample(action.subject, rng)
    thing, thing_noun = roles.sample(action.object, rng)
    place = str(rng.choice(list(PLACES))) if rng.random() < 0.3 else ""
    canvas = draw_background(place, size, rng)
    side = 1 if rng.random() < 0.5 else -1
    spots: dict[str, tuple[Spot, Spot]] = {  # of the subject and of the object
        "held": ((0.5 - 0.08 * side, 0.48, 0.8), (0.5 + 0.22 * side, 0.66, 0.42)),
        "below": ((0.5, 0.36, 0.68), (0.5, 0.79, 0.42)),
        "on": ((0.5, 0.3, 0.52), (0.5, 0.68, 0.62)),
        "in": ((0.5, 0.36, 0.5), (0.5, 0.64, 0.72)),
        "over": ((0.5, 0.62, 0.68), (0.5, 0.22, 0.46)),
        "beside": ((0.5 - 0.25 * side, 0.52, 0.52), (0.5 + 0.25 * side, 0.56, 0.48)),
        "above": ((0.5, 0.7, 0.5), (0.5 + 0.15 * side, 0.26, 0.46)),
        "before": ((0.5 + 0.12 * side, 0.68, 0.5), (0.5, 0.46, 0.86)),
    }
    subject_spot, thing_spot = spots[action.layout]
    back_to_front = [(subject, subject_spot), (thing, thing_spot)]
    if action.layout == "before":
        back_to_front.reverse()
    for drawing, spot in back_to_front:
        paste(canvas, drawing, *spot)
    verb = str(rng.choice(action.verbs))
    where = f" {rng.choice(PLACES[place])}" if place else ""
    phrase = verb.replace("%s", with_article(thing_noun))
    return canvas, [
        f"{with_article(subject_noun)} is {phrase}{where}".capitalize() + ".",
        f"{with_article(subject_noun)} {phrase}{where}",
        f"the {subject_noun} is {verb.replace('%s', f'the {thing_noun}')}{where}",
        f"someone is {phrase}" if action.subject == "person" else f"an animal is {phrase}",
    ]


def compose_pose(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene of a subject in a pose."""
    pose = roles.poses[rng.integers(len(roles.poses))]
    drawing, noun = roles.sample(pose.subject, rng)
    rotation = {"lying": 90, "leaning": -18, "over": 180}.get(pose.layout, 0)
    y = {"high": 0.3, "low": 0.7, "lying": 0.66}.get(pose.layout, 0.52)
    canvas = draw_background(pose.place, size, rng)
    paste(canvas, drawing, 0.5, y, 0.56, rotation=rotation)
    verb = str(rng.choice(pose.verbs))
    return canvas, [
        f"{with_article(noun)} {verb}",
        f"{with_article(noun)} is {verb}".capitalize() + ".",
        f"the {noun} is {verb}",
        verb,
    ]


def compose_place(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene of a thing at a place."""
    place = str(rng.choice(list(PLACES)))
    drawing, noun = roles.sample(str(rng.choice(["animal", "person", "vehicle", "thing", "building", "plant"])), rng)
    canvas = draw_background(place, size, rng)
    paste(canvas, drawing, rng.uniform(0.38, 0.62), 0.6, rng.uniform(0.5, 0.7))
    where = str(rng.choice(PLACES[place]))
    return canvas, [
        f"{with_article(noun)} {where}",
        f"there is {with_article(noun)} {where}",
        f"the {noun} is {where}",
        f"{noun} {where}",
    ]


def compose_relation(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene of two things in a spatial relation, or of different sizes."""
    choices = ["animal", "person", "vehicle", "thing", "food", "plant", "building", "clothes", "tool"]
    first, first_noun = roles.sample(str(rng.choice(choices)), rng)
    second, second_noun = roles.sample(str(rng.choice(choices)), rng)
    canvas = draw_background(str(rng.choice(list(PLACES))) if rng.random() < 0.15 else "", size, rng)
    relations: dict[str, tuple[tuple[str, ...], Spot, Spot]] = {  # prepositions, spots of the first and of the second thing
        "beside": (("and", "next to", "beside", "near", "with"), (0.27, 0.5, 0.5), (0.73, 0.5, 0.5)),
        "left": (("to the left of", "left of"), (0.25, 0.5, 0.48), (0.75, 0.5, 0.48)),
        "right": (("to the right of", "right of"), (0.75, 0.5, 0.48), (0.25, 0.5, 0.48)),
        "above": (("above", "over"), (0.5, 0.25, 0.48), (0.5, 0.75, 0.48)),
        "below": (("below", "under", "beneath"), (0.5, 0.75, 0.48), (0.5, 0.25, 0.48)),
        "on": (("on", "on top of"), (0.5, 0.3, 0.46), (0.5, 0.7, 0.6)),
        "in": (("in", "inside"), (0.5, 0.52, 0.34), (0.5, 0.5, 0.92)),
        "front": (("in front of",), (0.5, 0.66, 0.5), (0.5, 0.44, 0.8)),
        "behind": (("behind",), (0.5, 0.36, 0.7), (0.5, 0.7, 0.52)),
        "far": (("far from", "away from"), (0.14, 0.5, 0.28), (0.86, 0.5, 0.28)),
        "bigger": (("bigger than", "larger than"), (0.36, 0.5, 0.7), (0.84, 0.72, 0.3)),
        "smaller": (("smaller than",), (0.16, 0.72, 0.3), (0.64, 0.5, 0.7)),
    }
    relation = str(rng.choice(list(relations)))
    prepositions, first_spot, second_spot = relations[relation]
    back_to_front = [(second, second_spot), (first, first_spot)]
    if relation == "behind":
        back_to_front.reverse()
    for drawing, spot in back_to_front:
        paste(canvas, drawing, *spot)
    word = str(rng.choice(prepositions))
    pair = f"{with_article(first_noun)} {word} {with_article(second_noun)}"
    return canvas, [
        pair,
        f"the {first_noun} is {word} the {second_noun}" if word not in ("and", "with") else f"a picture of {pair}",
        f"there is {pair}",
    ]


def compose_count(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene of one to six copies of a thing."""
    count = int(rng.integers(1, 7))
    drawing, noun = roles.sample(str(rng.choice(["animal", "person", "food", "thing", "vehicle", "plant"])), rng)
    canvas = draw_background("", size, rng)
    columns, rows = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2), 6: (3, 2)}[count]
    scale = 0.9 / max(columns, rows) if count > 1 else 0.5
    for i in range(count):
        paste(canvas, drawing, (i % columns + 0.5) / columns, (i // columns + 0.5) / rows, scale)
    if count == 1:
        return canvas, [f"one {noun}", f"a single {noun}", f"only one {noun}"]
    word = str(rng.choice(NUMBER_WORDS[count]))
    return canvas, [
        f"{word} {plural(noun)}",
        f"there are {word} {plural(noun)}",
        f"{NUMBER_WORDS[count][0]} {plural(noun)} side by side",
    ]


def compose_appearance(roles: RoleIndex, size: int, rng: np.random.Generator) -> Scene:
    """Compose a scene of a thing with a colour, brightness, size or shape."""
    choices = ["animal", "vehicle", "thing", "food", "building", "clothes", "plant", "person"]
    drawing, noun = roles.sample(str(rng.choice(choices)), rng)
    canvas = draw_background("", size, rng)
    colour = str(rng.choice(COLOURS))
    shapes: dict[tuple[str, ...], tuple[float, float, float, int]] = {  # scale, width, height, rotation
        ("big", "large", "huge", "giant", "enormous"): (1.0, 1.0, 1.0, 0),
        ("small", "little", "tiny", "miniature"): (0.26, 1.0, 1.0, 0),
        ("tall", "high", "long"): (0.9, 0.45, 1.0, 0),
        ("wide", "short", "low", "fat"): (0.9, 1.0, 0.45, 0),
        ("thin", "narrow", "slim"): (0.8, 0.25, 1.0, 0),
        ("tilted", "crooked", "leaning"): (0.7, 1.0, 1.0, 30),
    }
    brightness = {
        ("dark", "dim", "gloomy"): 0.35,
        ("bright", "shiny", "pale", "light"): 1.6,
        ("faded", "faint", "transparent"): 0.0,
    }
    adjectives: list[str] = []
    scale, width, height, rotation = 0.75, 1.0, 1.0, 0
    if rng.random() < 0.5:
        drawing = recolour(drawing, colour)
        adjectives.append(colour)
    elif rng.random() < 0.3:
        words = list(brightness)[rng.integers(len(brightness))]
        drawing = change_brightness(drawing, brightness[words])
        adjectives.append(str(rng.choice(words)))
    if not adjectives or rng.random() < 0.4:
        words = list(shapes)[rng.integers(len(shapes))]
        scale, width, height, rotation = shapes[words]
        adjectives.insert(0, str(rng.choice(words)))
    paste(canvas, drawing, 0.5, 0.5, scale, width=width, height=height, rotation=rotation)
    description = " ".join(adjectives)
    return canvas, [
        f"{description} {noun}",
        f"{with_article(description)} {noun}",
        f"the {noun} is {' and '.join(adjectives)}",
        f"something {description}",
    ]
