"""Images, videos and sounds: their files, and a picture of each for figures."""

from __future__ import annotations

import io
import itertools
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from conjure.errors import InputError
from conjure.io.documents import data_uri
from conjure.io.files import write_output

if TYPE_CHECKING:
    from PIL.Image import Image

MediaKind = Literal["image", "video", "audio"]

SUFFIXES: dict[MediaKind, tuple[str, ...]] = {"image": (".png",), "video": (".gif", ".webp", ".mp4"), "audio": (".wav",)}
STRIP_FRAMES = 4  # frames of a video in its picture
MEL_BINS, COLUMNS = 64, 128  # rows and columns of a spectrogram
WINDOW = 1024  # samples of one column of a spectrogram
MAX_PAGE_SIDE = 480  # pixels of the longer side of a video on an HTML page
# Milliseconds of which durations in a file are multiples, and below which browsers show a frame for 100 ms
RESOLUTIONS = {"gif": (10, 20), "webp": (1, 11)}
DECIBELS = 80.0  # below the full scale, shown as black


@dataclass(frozen=True)
class Media:
    """An image, a video or a sound.

    Attributes:
        kind: What it is.
        values: An image (height, width, 3) or a video (frames, height, width, 3) in 0..1; or a sound (channels, samples) in
            -1..1.
        rate: Frames or samples per second; None for an image.
    """

    kind: MediaKind
    values: Float[np.ndarray, "*shape"]
    rate: float | None = None

    @property
    def seconds(self) -> float:
        """The duration, 0 for an image."""
        if self.rate is None:
            return 0.0
        return self.values.shape[0 if self.kind == "video" else -1] / self.rate

    def picture(self, frames: Sequence[int] | None = None) -> Float[np.ndarray, "height width 3"]:
        """Return an image as it is, frames of a video from top to bottom, or the mel spectrogram of a sound, as RGB in 0..1.

        Args:
            frames: The frames of a video that are shown. None for the middle of each of `STRIP_FRAMES` equal parts.
        """
        match self.kind:
            case "image":
                return self.values
            case "video":
                parts = np.array_split(np.arange(len(self.values)), min(STRIP_FRAMES, len(self.values)))
                return np.concatenate(list(self.values[[part[len(part) // 2] for part in parts] if frames is None else frames]))
        return mel_spectrogram(self.values.mean(0), self.rate or 1.0)

    def save(self, path: str | Path) -> None:
        """Write the file: .png for an image; .gif, .webp or .mp4 for a video; .wav for a sound.

        Raises:
            InputError: If the suffix is another one, the file cannot be written, or the encoder of .mp4 is not installed.
        """
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES[self.kind]:
            raise InputError(f"file {str(path)!r} is of another kind; a file of this {self.kind} ends with "
                             f"{' or '.join(SUFFIXES[self.kind])}")  # fmt: skip
        write_output(path, self.encode(path.suffix.lower().removeprefix(".")), make_folders=False)

    def encode(self, file_format: str) -> bytes:
        """Return the content of a file.

        Args:
            file_format: `png`, `gif`, `webp`, `mp4` or `wav`, as the kind allows. A .gif file shows at most 50 frames per second,
                and a .webp file at most 90: of faster videos, it leaves out frames evenly.
        """
        if self.kind == "audio":
            return _wav(self.values, self.rate or 1.0)
        if file_format == "mp4":
            return _mp4(self._frames(), self.rate or 1.0)
        return _animation(self._frames(), file_format, self.rate, **({"lossless": True} if file_format == "webp" else {}))

    def to_html(self) -> str:
        """Return an HTML element that shows an image or a video, or plays a sound, without external files.

        Images are reduced to `MAX_PAGE_SIDE` pixels.
        """
        if self.kind == "audio":
            return f'<audio controls src="{data_uri(self.encode("wav"), "wav", "audio")}"></audio>'
        content = _animation(self._frames(), "webp", self.rate, largest=MAX_PAGE_SIDE, quality=85)
        return f'<img alt="{self.kind}" src="{data_uri(content, "webp")}">'

    def _frames(self) -> UInt8[np.ndarray, "frames height width 3"]:
        pixels = (self.values.clip(0, 1) * 255).round().astype(np.uint8)
        return pixels if self.kind == "video" else pixels[None]


def mel_spectrogram(samples: Float[np.ndarray, " samples"], rate: float) -> Float[np.ndarray, "bins columns 3"]:
    """Return the log-mel spectrogram of a sound as an RGB image in 0..1, with low frequencies below.

    The columns have equal lengths, which together are that of the sound. Each is the mean over windows around times in it.

    Args:
        samples: Samples in -1..1; at least one.
        rate: Samples per second.
    """
    from matplotlib import colormaps
    from transformers.audio_utils import mel_filter_bank, window_function

    with np.errstate(divide="ignore"):
        filters = mel_filter_bank(1 + WINDOW // 2, MEL_BINS, 0.0, rate / 2, int(rate), mel_scale="slaney")
    per_column = -(-2 * len(samples) // (COLUMNS * WINDOW))  # windows, which overlap by at least half of their length
    padded = np.pad(samples.astype(np.float64), WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    centers = (np.arange(COLUMNS * per_column) + 0.5) * len(samples) / (COLUMNS * per_column)
    columns = centers.astype(int).reshape(COLUMNS, per_column)
    hann = window_function(WINDOW, "hann")
    power = np.stack([np.square(np.abs(np.fft.rfft(windows[column] * hann))).mean(0) for column in columns])
    energy = (power @ filters).T
    level = 10 * np.log10(np.maximum(energy, 1e-12)) - 20 * np.log10(WINDOW / 4)  # a sine of full scale has about 0
    return colormaps["magma"]((level / DECIBELS + 1).clip(0, 1))[::-1, :, :3]


def _wav(values: Float[np.ndarray, "channels samples"], rate: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(values))
        file.setsampwidth(2)
        file.setframerate(round(rate))
        file.writeframes((values.clip(-1, 1).T * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _animation(
    pixels: UInt8[np.ndarray, "frames height width 3"], file_format: str, rate: float | None, largest: int = 0, **options: Any
) -> bytes:
    """Return the file of an image or a video, with a longer side of at most `largest` pixels (0: no limit)."""
    from PIL import Image

    durations: list[int] = []
    if rate is not None:
        shown, durations = _timing(len(pixels), rate, *RESOLUTIONS[file_format])
        pixels = pixels[shown]
    images = [Image.fromarray(frame) for frame in pixels]
    for image in images if largest else ():
        image.thumbnail((largest, largest))
    if file_format == "gif":
        return _gif(images, durations)
    if durations:
        options |= {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0}
    buffer = io.BytesIO()
    images[0].save(buffer, file_format, **options)
    return buffer.getvalue()


def _timing(num_frames: int, rate: float, resolution: int, shortest: int) -> tuple[list[int], list[int]]:
    """Return which frames an animation shows, and for how many milliseconds each.

    The durations are multiples of `resolution`. Each frame ends at the multiple that is nearest to its end in the video, so that
    the errors do not add up. Where frames are shorter than `shortest`, which programs show more slowly, some are left out.
    """
    length = 1000 * num_frames / rate
    count = min(num_frames, max(1, int(length / shortest + 1e-9)))
    ends = [resolution * round(length * (index + 1) / count / resolution) for index in range(count)]
    return [index * num_frames // count for index in range(count)], np.diff(ends, prepend=0).tolist()


def _gif(images: Sequence[Image], durations: Sequence[int]) -> bytes:
    """Return a .gif file in which each image is one frame. `Image.save` would join equal frames."""
    from PIL import GifImagePlugin, Image

    frames = [image.convert("P", palette=Image.Palette.ADAPTIVE) for image in images]
    header, _ = GifImagePlugin.getheader(frames[0].copy(), info={"loop": 0})
    blocks = [
        GifImagePlugin.getdata(frame, duration=duration, include_color_table=True)
        for frame, duration in zip(frames, durations, strict=True)
    ]
    return b"".join([*header, *itertools.chain.from_iterable(blocks), b";"])


def _mp4(pixels: UInt8[np.ndarray, "frames height width 3"], rate: float) -> bytes:
    import tempfile

    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise InputError(
            "an .mp4 file needs imageio-ffmpeg, which is not installed; install conjure[video], or name a .gif or .webp file"
        ) from error
    even = pixels[:, : pixels.shape[1] // 2 * 2, : pixels.shape[2] // 2 * 2]  # the encoder halves the resolution of colors
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        size = (even.shape[2], even.shape[1])
        writer = imageio_ffmpeg.write_frames(str(path), size, fps=rate, macro_block_size=1, codec="libx264", quality=8)
        writer.send(None)
        for frame in even:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()
