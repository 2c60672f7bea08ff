"""The web app: compare two texts, a matrix of many, and finished runs of `conjure bench`, on the models that the operator allows.

Texts of visitors are data: they are escaped wherever they are shown, and held to limits before anything is computed.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from conjure.errors import InputError
from conjure.explanation import Explanation, unfold
from conjure.loading import load
from conjure.matrices import Matrix, check_texts, matrix
from conjure.process import Process
from conjure.render import heat_map_bytes, printable
from conjure.viewer import page

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no telemetry, whatever Gradio's default is
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError as error:
    raise InputError("the app needs the package gradio: pip install 'conjure[app]'") from error

EXAMPLES = (
    ("snow leopard", "bengal tiger"),
    ("dog", "animal"),
    ("a big red apple", "a small green apple"),
    ("a man is riding a horse", "a woman is riding a bicycle"),
)
WORDS = "puppy\npoodle\ndalmatian\npug\nwhale\nshark\ndolphin\nsea lion"
MOST_SEED = 2**31
KEPT = 64  # finished comparisons and matrices that are kept, so that an example or a shared link costs nothing


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for, and how many at once: characters a text, texts a matrix, samples k, steps T, requests that
    wait, and jobs that compute at the same time."""

    length: int = 300
    texts: int = 16
    samples: int = 8
    steps: int = 50
    waiting: int = 32
    jobs: int = 1


@dataclass
class Service:
    """What the app can do, without its face. models: the names that may be chosen, the first at the start. runs: a folder whose
    subfolders are runs of `conjure bench`."""

    models: Sequence[str] = ("default",)
    runs: Path | None = None
    limits: Limits = field(default_factory=Limits)
    device: str | None = None
    _processes: dict[str, Process] = field(default_factory=dict)
    _done: OrderedDict[tuple[Any, ...], Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def process(self, model: str, steps: int) -> Process:
        """The process of an allowed model. Errors: `InputError` for others."""
        if model not in self.models:
            raise InputError(f"the model {model!r} is not offered here; allowed are {', '.join(self.models)}")
        with self._lock:
            if model not in self._processes:
                self._processes[model] = load(model, device=self.device)
        return self._processes[model].set(steps=_whole("steps", steps, self.limits.steps))

    def text(self, text: str) -> str:
        """`text`, if it is one and not too long. Errors: `InputError`."""
        if not isinstance(text, str) or not text.strip():
            raise InputError("a text is empty; give two texts")
        if len(text) > self.limits.length:
            raise InputError(f"a text has {len(text)} characters; allowed are {self.limits.length}")
        return text.strip()

    def compare(self, a: str, b: str, model: str, samples: int, steps: int, seed: int) -> Iterator[Explanation]:
        """Ever more of what sets `a` and `b` apart. Errors: `InputError`, before anything is computed."""
        a, b = self.text(a), self.text(b)
        samples, seed = _whole("samples", samples, self.limits.samples), _whole("seed", seed, MOST_SEED, least=0)
        process = self.process(model, steps)
        key = ("compare", a, b, model, samples, process.steps, seed)
        if key in self._done:
            yield self._done[key]
            return
        for explanation in unfold(process, a, b, samples=samples, seed=seed):
            yield explanation
        self._keep(key, explanation)

    def matrix(self, lines: str, model: str, samples: int, steps: int, seed: int, progress: Any = None) -> Matrix:
        """All texts, one a line, against all. Errors: `InputError`, before anything is computed."""
        texts = check_texts(self.text(line) for line in (lines or "").splitlines() if line.strip())
        if len(texts) > self.limits.texts:
            raise InputError(f"there are {len(texts)} texts; allowed are {self.limits.texts}")
        samples, seed = _whole("samples", samples, self.limits.samples), _whole("seed", seed, MOST_SEED, least=0)
        process = self.process(model, steps)
        key = ("matrix", *texts, model, samples, process.steps, seed)
        if key not in self._done:
            self._keep(key, matrix(process, texts, samples=samples, seed=seed, progress=progress))
        return self._done[key]

    def finished(self) -> list[str]:
        """Names of the runs that can be looked at."""
        if self.runs is None or not self.runs.is_dir():
            return []
        own = self.runs.resolve()
        return sorted(path.parent.name for path in self.runs.glob("*/report.html") if path.resolve().parent.parent == own)

    def report(self, name: str) -> str:
        """The page of the run `name`. Errors: `InputError` for a name that is not among `finished`."""
        if self.runs is None or name not in self.finished():
            raise InputError(f"there is no run {name!r}; allowed are {', '.join(self.finished()) or 'none yet'}")
        return (self.runs / name / "report.html").read_text(encoding="utf-8")

    def prepare(self) -> None:
        """Compute the examples, so that they are there at once."""
        for a, b in EXAMPLES:
            for _ in self.compare(a, b, self.models[0], 3, 10, 0):
                pass

    def _keep(self, key: tuple[Any, ...], value: Any) -> None:
        with self._lock:
            self._done[key] = value
            while len(self._done) > KEPT:
                self._done.popitem(last=False)


def _whole(name: str, value: Any, most: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not least <= value <= most:
        raise InputError(f"{name} is {value!r}; allowed are whole numbers from {least} to {most}")
    return int(value)


def build(service: Service) -> gr.Blocks:
    """The app's face over `service`."""
    with gr.Blocks(title="Conjure", analytics_enabled=False) as blocks:
        gr.Markdown("# Conjure\nHow similar two texts are by what they make a text-to-image diffusion model conjure.")
        with gr.Tab("Compare"):
            _compare_tab(blocks, service)
        with gr.Tab("Matrix"):
            _matrix_tab(service)
        with gr.Tab("Runs"):
            _runs_tab(service)
    blocks.queue(max_size=service.limits.waiting)
    return blocks


def _settings(service: Service) -> list[Any]:
    """Model, samples, steps and seed."""
    limits = service.limits
    with gr.Accordion("Settings", open=False), gr.Row():
        return [
            gr.Dropdown(list(service.models), value=service.models[0], label="Model"),
            gr.Slider(1, limits.samples, 3, step=1, label="Samples k"),
            gr.Slider(1, limits.steps, 10, step=1, label="Steps T"),
            gr.Number(0, precision=0, minimum=0, label="Seed"),
        ]


def _compare_tab(blocks: gr.Blocks, service: Service) -> None:
    limits = service.limits
    with gr.Row():
        first = gr.Textbox(EXAMPLES[0][0], label="One text", max_length=limits.length, elem_id="first")
        second = gr.Textbox(EXAMPLES[0][1], label="Another text", max_length=limits.length, elem_id="second")
    asked = [first, second, *_settings(service)]
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="go")
        stop = gr.Button("Stop", elem_id="stop")
    number, grid = gr.HTML(elem_id="number"), gr.HTML(elem_id="grid")
    gr.Examples([list(pair) for pair in EXAMPLES], [first, second], label="Computed already")

    def compare(a: str, b: str, model: str, samples: int, steps: int, seed: int) -> Iterator[tuple[str, str]]:
        link = "?" + urlencode({"a": a, "b": b, "model": model, "samples": samples, "steps": steps, "seed": seed})
        with _clearly():
            for found in service.compare(a, b, model, samples, steps, seed):
                yield _number(found), _grid(found)
            yield f'<p><a href="{html.escape(link)}">Link to these settings</a></p>', _framed(page(found))

    def linked(request: gr.Request) -> list[Any]:
        told = request.query_params
        values: list[Any] = [told.get(name, pair)[: limits.length] for name, pair in zip("ab", EXAMPLES[0], strict=True)]
        values.append(told["model"] if told.get("model") in service.models else service.models[0])
        for name, usual, most in (("samples", 3, limits.samples), ("steps", 10, limits.steps), ("seed", 0, MOST_SEED)):
            given = told.get(name, "")
            values.append(min(int(given), most) if given.isdecimal() and len(given) < 12 else usual)
        return values

    running = gr.on(
        [go.click, first.submit, second.submit], compare, asked, [number, grid],
        concurrency_id="model", concurrency_limit=limits.jobs, api_name="compare", show_progress="minimal",
    )  # fmt: skip
    stop.click(None, cancels=running, queue=False)
    blocks.load(linked, None, asked, queue=False, api_visibility="private")


def _matrix_tab(service: Service) -> None:
    limits = service.limits
    words = gr.Textbox(WORDS, label=f"Texts, one a line, {limits.texts} at most", lines=8, elem_id="words",
                       max_length=(limits.length + 1) * limits.texts)  # fmt: skip
    asked = [words, *_settings(service)]
    with gr.Row():
        draw = gr.Button("Compare all with all", variant="primary", elem_id="draw")
        stop = gr.Button("Stop")
    heat = gr.HTML(elem_id="heat")
    table = gr.Textbox(label="Distances as comma-separated values", buttons=["copy"], visible=False, elem_id="csv")

    def compare(
        lines: str,
        model: str,
        samples: int,
        steps: int,
        seed: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, Any]:
        def report(done: int, whole: int) -> None:
            progress((done, whole), desc="denoising", unit="steps")

        with _clearly():
            found = service.matrix(lines, model, samples, steps, seed, report)
        return _heat(found), gr.Textbox(value=found.to_csv(), visible=True)

    drawing = draw.click(compare, asked, [heat, table], concurrency_id="model", concurrency_limit=limits.jobs, api_name="matrix")
    stop.click(None, cancels=drawing, queue=False)


def _runs_tab(service: Service) -> None:
    names = service.finished()
    run = gr.Dropdown(names, label="Finished runs of conjure bench", value=None, elem_id="run")
    report = gr.HTML("" if names else "<p>There is none in the folder that this app was given.</p>", elem_id="report")

    def look(name: str | None) -> str:
        with _clearly():
            return _framed(service.report(name)) if name else ""

    run.change(look, run, report, api_name="run")


@contextlib.contextmanager
def _clearly() -> Iterator[None]:
    """What a visitor got wrong is told to him in one line."""
    try:
        yield
    except InputError as error:
        raise gr.Error(html.escape(str(error)), print_exception=False, title="Not possible") from error


def _number(found: Explanation) -> str:
    """The distance so far, with its interval."""
    estimate = found.estimate
    first, second = (html.escape(printable(text)) for text in estimate.texts)
    count = len(estimate.samples)
    return (
        f'<p style="font-size:1.4rem;font-weight:600;margin:0">{html.escape(str(estimate))}</p>'
        f"<p>{html.escape(estimate.divergence)}, {html.escape(estimate.unit)}, of “{first}” and “{second}”; "
        f"{count} sample{'s' if count > 1 else ''} so far</p>"
    )


def _grid(found: Explanation) -> str:
    """Figure 1 as far as it is decoded: for both directions the noisy pictures, above and below what the texts take them for."""
    parts = []
    for side in (found.forward, found.backward):
        rows = [np.concatenate(pictures, axis=1) for pictures in (side.first, side.noisy, side.second)]
        picture = Image.fromarray((np.concatenate(rows).clip(0, 1) * 255).round().astype(np.uint8))
        picture.thumbnail((1280, 1280))
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        text = html.escape(printable(side.text))
        parts.append(
            f'<figure style="margin:.5rem 0"><figcaption>along what “{text}” conjures</figcaption>'
            f'<img style="width:100%;image-rendering:pixelated" alt="noisy pictures, and what either text takes them for" '
            f'src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"></figure>'
        )
    return "".join(parts)


def _heat(found: Matrix) -> str:
    picture = base64.b64encode(heat_map_bytes(found, "png")).decode()
    names = html.escape(", ".join(printable(text) for text in found.texts))
    return f'<img style="max-width:100%;background:#fff" alt="distances of {names}" src="data:image/png;base64,{picture}">'


def _framed(document: str) -> str:
    """A page of ours within the app, in a frame of its own that can reach nothing of the app's."""
    return (
        '<iframe sandbox="allow-scripts" title="result" style="width:100%;height:75rem;border:0;background:Canvas" '
        f'srcdoc="{html.escape(document)}"></iframe>'
    )


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    user: tuple[str, str] | None = None,
    wait: bool = True,
) -> str:
    """Serve the app, and return its address when it is up; with `wait`, when it is stopped.

    host: the address to listen at, this machine alone if not given. port: the first free one from 7860 on if not given.
    user: a name and a password that visitors need.

    Errors: `InputError` where it cannot listen there.
    """
    threading.Thread(target=service.prepare, daemon=True).start()
    fonts = ["system-ui", "sans-serif"]  # none that a browser would fetch from elsewhere
    try:
        _, address, _ = build(service).launch(
            server_name=host, server_port=port, auth=user, share=False, quiet=True, prevent_thread_lock=True, show_error=False,
            theme=gr.themes.Default(font=fonts, font_mono=["monospace"]), footer_links=[], max_file_size=0, ssr_mode=False,
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot listen at {host}, port {port or 'from 7860 on'}: {error}; give another --port") from error
    print(f"Conjure listens at {address}", flush=True)
    if wait:
        threading.Event().wait()
    return address
