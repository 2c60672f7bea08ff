"""Drawing operations of the composed scenes: backgrounds, pasting, recolouring and brightness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]

HUES = {"red": 0, "orange": 20, "brown": 16, "yellow": 36, "green": 85, "blue": 155, "purple": 192, "pink": 230}  # 0 to 255

# Colours of a place above and below the horizon
UPPER_COLOURS: dict[str, Colour] = {
    "night": (24, 28, 66), "rain": (150, 160, 172), "sky": (135, 195, 240), "water": (175, 215, 245), "fire": (70, 30, 25),
    "room": (232, 214, 188), "forest": (196, 226, 190), "city": (190, 206, 222), "snow": (205, 222, 238), "sun": (150, 208, 246),
    "grass": (176, 218, 246), "sand": (160, 212, 244), "road": (196, 214, 228),
}  # fmt: skip
LOWER_COLOURS: dict[str, Colour] = {
    "grass": (96, 176, 72), "snow": (246, 249, 253), "sand": (234, 206, 142), "water": (44, 118, 190), "road": (104, 104, 110),
    "room": (164, 118, 78), "forest": (66, 128, 58), "city": (134, 134, 140), "sun": (140, 196, 90), "night": (38, 46, 54),
    "rain": (110, 126, 120),
}  # fmt: skip
# Snowflakes, raindrops, stars and flames: colour, number and height in pixels
PARTICLES: dict[str, tuple[Colour, int, int]] = {
    "snow": ((255, 255, 255), 40, 1),
    "rain": ((84, 124, 190), 44, 4),
    "night": ((250, 246, 200), 16, 1),
    "fire": ((250, 150, 30), 60, 5),
}


def draw_background(place: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return an image of an empty `place`, uint8 of shape (size, size, 3). It is white if `place` is an empty string."""
    canvas = np.full((size, size, 3), 255, dtype=np.uint8)
    horizon = round(size * rng.uniform(0.5, 0.68))

    def vary(rgb: Sequence[int]) -> np.ndarray:
        return (np.array(rgb) + rng.integers(-14, 15, 3)).clip(0, 255).astype(np.uint8)

    if place in UPPER_COLOURS:
        canvas[:] = vary(UPPER_COLOURS[place])
    if place in LOWER_COLOURS:
        canvas[horizon:] = vary(LOWER_COLOURS[place])
    if place in PARTICLES:
        colour, count, height = PARTICLES[place]
        width = 2 if place == "fire" else 1
        for x, y in zip(rng.integers(0, size - 1, count), rng.integers(0, size - height, count), strict=True):
            canvas[y : y + height, x : x + width] = colour
    if place in ("forest", "city"):  # trees or buildings
        for x in range(0, size, size // 6):
            top = int(rng.integers(size // 8, horizon - size // 8))
            canvas[top:horizon, x : x + size // 9] = vary((92, 64, 40) if place == "forest" else (120, 128, 144))
            if place == "forest":
                canvas[max(0, top - size // 10) : top + size // 8, max(0, x - 3) : x + size // 9 + 3] = vary((48, 110, 48))
    if place in ("sun", "night"):  # the sun or the moon
        y, x = np.mgrid[:size, :size]
        disc = (x - size * 0.82) ** 2 + (y - size * 0.17) ** 2 < (size * 0.1) ** 2
        canvas[disc] = (255, 214, 60) if place == "sun" else (244, 240, 214)
    if place == "road":
        canvas[(horizon + size) // 2 - 1 : (horizon + size) // 2 + 1] = 230  # the line in its middle
    return canvas


def paste(
    canvas: np.ndarray,
    drawing: np.ndarray,
    x: float,
    y: float,
    scale: float,
    *,
    width: float = 1,
    height: float = 1,
    rotation: int = 0,
) -> None:
    """Paste a drawing onto `canvas` in place.

    Args:
        canvas: The image to change, uint8 of shape (size, size, 3).
        drawing: The drawing with transparency, uint8 of shape (size, size, 4).
        x: The position of the drawing's centre, as a share of the canvas' width.
        y: The position of the drawing's centre, as a share of the canvas' height.
        scale: The side of the drawing, as a share of the canvas' side.
        width: A further factor of the drawing's width.
        height: A further factor of the drawing's height.
        rotation: The angle of a counter-clockwise rotation, in degrees.
    """
    size = len(canvas)
    new_size = (max(1, round(size * scale * width)), max(1, round(size * scale * height)))
    image = Image.fromarray(drawing).resize(new_size, Image.Resampling.BOX)
    image = image.rotate(rotation, Image.Resampling.BILINEAR, expand=True) if rotation else image
    background = Image.fromarray(canvas)
    background.paste(image, (round(size * x - image.width / 2), round(size * y - image.height / 2)), image)
    canvas[:] = np.asarray(background)


def recolour(drawing: np.ndarray, colour: str) -> np.ndarray:
    """Return the drawing, uint8 of shape (size, size, 4), in shades of `colour`. Its light and dark areas are preserved."""
    luminance = np.asarray(Image.fromarray(drawing[..., :3]).convert("L"), dtype=float)
    if colour in HUES:
        saturation = {"brown": 170, "pink": 110}.get(colour, 215)
        value = {"brown": 0.35 * luminance + 60, "pink": 0.3 * luminance + 178}.get(colour, 0.55 * luminance + 110)
        channels = [np.full_like(luminance, HUES[colour]), np.full_like(luminance, saturation), value]
        hsv = Image.merge("HSV", [Image.fromarray(channel.clip(0, 255).astype(np.uint8)) for channel in channels])
        rgb = np.asarray(hsv.convert("RGB"))
    else:
        value = {"black": 0.3 * luminance, "grey": 0.3 * luminance + 90, "white": 0.25 * luminance + 190}[colour]
        rgb = np.repeat(value.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.concatenate([rgb, drawing[..., 3:]], axis=2)


def change_brightness(drawing: np.ndarray, factor: float) -> np.ndarray:
    """Return the drawing, uint8 of shape (size, size, 4), darker (factor below 1), brighter (above 1) or transparent (0)."""
    rgb, alpha = drawing[..., :3].astype(float), drawing[..., 3:]
    if factor == 0:
        return np.concatenate([drawing[..., :3], alpha // 3], axis=2)
    rgb = rgb * factor if factor < 1 else 255 - (255 - rgb) / factor
    return np.concatenate([rgb.clip(0, 255).astype(np.uint8), alpha], axis=2)
