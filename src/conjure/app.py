"""The web app: compare two texts, a matrix of many, and finished runs of `conjure bench`, on the models that the operator allows.

Texts of visitors are data: they are escaped wherever they are shown, and held to limits before anything is computed.
"""

from __future__ import annotations

import contextlib
import html
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from conjure.checks import check_texts
from conjure.digits import counted
from conjure.document import picture_address
from conjure.errors import InputError, TextCutWarning
from conjure.explanation import Explanation, unfold
from conjure.loading import load
from conjure.matrices import Matrix, matrix
from conjure.process import Process
from conjure.render import heat_map_bytes, printable, quoted
from conjure.run import Progress
from conjure.store import Store
from conjure.viewer import address, mosaic, page

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no telemetry, whatever Gradio's default is
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError as error:
    raise InputError("the app needs the package gradio: pip install gradio") from error

EXAMPLES = (
    ("snow leopard", "bengal tiger"),
    ("dog", "animal"),
    ("a big red apple", "a small green apple"),
    ("a man is riding a horse", "a woman is riding a bicycle"),
)
WORDS = "puppy\npoodle\ndalmatian\npug\nwhale\nshark\ndolphin\nsea lion"
MOST_SEED = 2**31
KEPT = 100_000_000  # characters of finished answers that are kept, so that an example or a shared link costs nothing
PATIENCE = 30  # seconds that a request waits for one that was stopped to end


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

    @property
    def usual(self) -> tuple[int, int]:
        """Samples and steps that are asked for unless a visitor chooses."""
        return min(3, self.samples), min(10, self.steps)


@dataclass(frozen=True)
class Answer:
    """What a visitor sees, as HTML: in `head` the number, in `body` the pictures; for a matrix, `table` as CSV."""

    head: str
    body: str
    table: str = ""


class StoppedError(Exception):
    """A visitor no longer wants what is being computed."""


@dataclass
class Service:
    """What the app can do, without its controls. models: the names that may be chosen, the first at the start. runs: a folder
    whose subfolders are runs of `conjure bench`. store: where numbers are kept and looked up."""

    models: Sequence[str] = ("default",)
    runs: Path | None = None
    limits: Limits = field(default_factory=Limits)
    device: str | None = None
    store: Store | None = None

    def __post_init__(self) -> None:
        self._processes: dict[str, Process] = {}
        self._loading = {model: threading.Lock() for model in self.models}
        self._done: OrderedDict[tuple[Any, ...], Answer] = OrderedDict()
        self._keeping = threading.Lock()
        self._jobs = threading.BoundedSemaphore(self.limits.jobs)

    def process(self, model: str, steps: int) -> Process:
        """The process of an allowed model. Errors: `InputError` for others."""
        if model not in self.models:
            raise InputError(f"the model {str(model)[:80]!r} is not offered here; allowed are {', '.join(self.models)}")
        with self._loading[model]:
            if model not in self._processes:
                self._processes[model] = load(model, device=self.device)
        return self._processes[model].set(steps=steps, store=self.store)

    def compare(
        self, a: str, b: str, model: str, samples: int, steps: int, seed: int, progress: Progress | None = None
    ) -> Iterator[Answer]:
        """Ever more of what sets `a` and `b` apart; the last is the whole, and is kept.

        progress: told of every step; what it raises ends the computing. Errors: `InputError`, before anything is computed.
        """
        a, b = self._text(a), self._text(b)
        samples, steps, seed = self._settings(samples, steps, seed)
        key = ("compare", a, b, str(model), samples, steps, seed)
        if kept := self._kept(key):
            yield kept
            return
        process = self.process(model, steps)
        told = list[str]()
        with self._job():
            unfolding = unfold(process, a, b, samples=samples, seed=seed, progress=progress)
            while True:
                with _noticed(told):  # a generator may go on in another thread each time
                    found = next(unfolding, None)
                if found is None:
                    break
                last = found
                yield Answer(_number(found, told), _grid(found))
        yield self._keep(key, Answer(_notices(told), _framed(page(last))))

    def matrix(self, lines: str, model: str, samples: int, steps: int, seed: int, progress: Progress | None = None) -> Answer:
        """All texts, one a line, against all. Otherwise as `compare`."""
        limits = self.limits
        if not isinstance(lines, str) or len(lines) > (limits.length + 2) * 2 * limits.texts:
            raise InputError(f"give texts, one a line, {limits.texts} at most, of {limits.length} characters at most")
        split = [line for line in lines.splitlines() if line.strip()]
        if len(split) > limits.texts:
            raise InputError(f"there are {len(split)} texts; allowed are {limits.texts}")
        texts = check_texts(self._text(line) for line in split)
        samples, steps, seed = self._settings(samples, steps, seed)
        key = ("matrix", *texts, str(model), samples, steps, seed)
        if kept := self._kept(key):
            return kept
        process = self.process(model, steps)
        told = list[str]()
        with self._job(), _noticed(told):
            found = matrix(process, texts, samples=samples, seed=seed, progress=progress)
        return self._keep(key, Answer(_notices(told), _heat(found), found.to_csv()))

    def finished(self) -> list[str]:
        """Names of the runs that can be looked at."""
        if self.runs is None or not self.runs.is_dir():
            return []
        own = self.runs.resolve()
        return sorted(path.parent.name for path in self.runs.glob("*/report.html") if path.resolve().parent.parent == own)

    def report(self, name: str) -> str:
        """The page of the run `name`. Errors: `InputError` for a name that is not among `finished`."""
        if self.runs is None or name not in self.finished():
            raise InputError(f"there is no run {str(name)[:80]!r}; allowed are {', '.join(self.finished()) or 'none yet'}")
        return (self.runs / name / "report.html").read_text(encoding="utf-8")

    def prepare(self) -> None:
        """Compute the examples that are within the limits, so that they are there at once."""
        for a, b in EXAMPLES:
            with contextlib.suppress(InputError):
                for _ in self.compare(a, b, self.models[0], *self.limits.usual, 0):
                    pass

    def _text(self, text: str) -> str:
        if not isinstance(text, str) or not text.strip():
            raise InputError("a text is empty; give two texts")
        if len(text) > self.limits.length:
            raise InputError(f"a text has {len(text)} characters; allowed are {self.limits.length}")
        return text.strip()

    def _settings(self, samples: Any, steps: Any, seed: Any) -> tuple[int, int, int]:
        most = self.limits
        asked = (_whole("samples", samples, most.samples), _whole("steps", steps, most.steps))
        return (*asked, _whole("seed", seed, MOST_SEED, least=0))

    @contextlib.contextmanager
    def _job(self) -> Iterator[None]:
        """One of the jobs that compute at the same time: a stopped one counts until it has really ended."""
        if not self._jobs.acquire(timeout=PATIENCE):
            raise InputError("this machine is still busy with other requests; try again in a moment")
        try:
            yield
        finally:
            self._jobs.release()

    def _kept(self, key: tuple[Any, ...]) -> Answer | None:
        with self._keeping:
            if key in self._done:
                self._done.move_to_end(key)
            return self._done.get(key)

    def _keep(self, key: tuple[Any, ...], answer: Answer) -> Answer:
        with self._keeping:
            self._done[key] = answer
            while sum(len(one.head) + len(one.body) + len(one.table) for one in self._done.values()) > KEPT:
                self._done.popitem(last=False)
        return answer


def _whole(name: str, value: Any, most: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most or value != int(value):
        raise InputError(f"{name} is {str(value)[:80]!r}; allowed are whole numbers from {least} to {most}")
    return int(value)


_listening = threading.local()  # who is to be told of texts that do not count whole, thread by thread


@contextlib.contextmanager
def _noticed(told: list[str]) -> Iterator[None]:
    """While it lasts, warnings of this thread about texts that do not count whole go into `told`."""
    _listening.told = told
    try:
        yield
    finally:
        _listening.told = None


def _notice(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    told = getattr(_listening, "told", None)
    if told is not None and issubclass(category, TextCutWarning) and str(message) not in told:
        told.append(str(message))


def build(service: Service) -> gr.Blocks:
    """The app's face over `service`."""
    with gr.Blocks(title="Conjure", analytics_enabled=False) as blocks:
        gr.Markdown("# Conjure\nHow similar two texts are by what they make a text-to-image diffusion model conjure.")
        stops = _Stops()
        with gr.Tab("Compare"):
            _compare_tab(blocks, service, stops)
        with gr.Tab("Matrix"):
            _matrix_tab(service, stops)
        with gr.Tab("Runs"):
            _runs_tab(blocks, service)
        blocks.unload(stops.stop)
    blocks.queue(max_size=service.limits.waiting)
    return blocks


def _settings(service: Service) -> list[Any]:
    """Model, samples, steps and seed."""
    limits = service.limits
    samples, steps = limits.usual
    with gr.Accordion("Settings", open=False), gr.Row():
        return [
            gr.Dropdown(list(service.models), value=service.models[0], label="Model"),
            gr.Slider(1, max(2, limits.samples), samples, step=1, label="Samples k"),
            gr.Slider(1, max(2, limits.steps), steps, step=1, label="Steps T"),
            gr.Number(0, precision=0, minimum=0, label="Seed"),
        ]


class _Stops:
    """Whose computing is to end: a flag for each visitor, who is known by the session of his browser, for all that he runs."""

    def __init__(self) -> None:
        self._flags: dict[str, threading.Event] = {}

    def begin(self, request: gr.Request) -> Callable[[], None]:
        """A call that raises `StoppedError` once this visitor has asked for it, or has left."""
        flag = self._flags.setdefault(str(request.session_hash), threading.Event())

        def check() -> None:
            if flag.is_set():
                raise StoppedError

        return check

    def stop(self, request: gr.Request) -> None:
        if flag := self._flags.pop(str(request.session_hash), None):
            flag.set()


def _reporting(check: Callable[[], None], progress: gr.Progress) -> Progress:
    """Shows each step to the visitor, if he has not stopped it."""

    def report(done: int, whole: int) -> None:
        check()
        progress((done, whole), desc="denoising", unit="steps")

    return report


def _compare_tab(blocks: gr.Blocks, service: Service, stops: _Stops) -> None:
    limits = service.limits
    with gr.Row():
        # without `max_length`, which cuts what is pasted in silence: the service refuses what is too long
        first = gr.Textbox(EXAMPLES[0][0], label="One text", max_lines=5, min_width=240, elem_id="first")
        second = gr.Textbox(EXAMPLES[0][1], label="Another text", max_lines=5, min_width=240, elem_id="second")
    asked = [first, second, *_settings(service)]
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="go")
        stop = gr.Button("Stop", elem_id="stop")
    label = "Examples; a click compares them"
    examples = gr.Examples([list(pair) for pair in EXAMPLES], [first, second], label=label, elem_id="examples")
    number, grid = gr.HTML(elem_id="number"), gr.HTML(elem_id="grid")

    def compare(
        a: str, b: str, model: str, samples: int, steps: int, seed: int,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        check = stops.begin(request)
        settings = {"a": a, "b": b, "model": model, "samples": samples, "steps": steps, "seed": seed}
        link = f'<p><a href="?{html.escape(urlencode(settings))}">Link to these settings</a></p>'
        with _clearly():
            for answer in service.compare(a, b, model, samples, steps, seed, _reporting(check, progress)):
                check()
                yield answer.head + link, answer.body

    def linked(request: gr.Request) -> list[Any]:
        told = request.query_params
        values: list[Any] = [told.get(name, pair) for name, pair in zip("ab", EXAMPLES[0], strict=True)]
        values.append(told["model"] if told.get("model") in service.models else service.models[0])
        usual, most = (*limits.usual, 0), (limits.samples, limits.steps, MOST_SEED)
        for name, value, top in zip(("samples", "steps", "seed"), usual, most, strict=True):
            given = told.get(name, "")
            values.append(min(int(given), top) if given.isascii() and given.isdecimal() and len(given) < 12 else value)
        return values

    options: dict[str, Any] = {
        "fn": compare, "inputs": asked, "outputs": [number, grid], "concurrency_id": "model", "concurrency_limit": limits.jobs,
        "show_progress": "minimal",
    }  # fmt: skip
    running = gr.on([go.click, first.submit, second.submit], api_name="compare", **options)
    shown = examples.load_input_event.then(api_visibility="private", **options)
    stop.click(stops.stop, cancels=[running, shown], queue=False, api_visibility="private")
    blocks.load(linked, None, asked, queue=False, api_visibility="private")


def _matrix_tab(service: Service, stops: _Stops) -> None:
    limits = service.limits
    words = gr.Textbox(WORDS, label=f"Texts, one a line, {limits.texts} at most", lines=8, elem_id="words")
    asked = [words, *_settings(service)]
    with gr.Row():
        draw = gr.Button("Compare all with all", variant="primary", elem_id="draw")
        stop = gr.Button("Stop")
    heat = gr.HTML(elem_id="heat")
    table = gr.Textbox(label="Distances as comma-separated values", buttons=["copy"], visible=False, elem_id="csv")

    def compare(
        lines: str, model: str, samples: int, steps: int, seed: int,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, Any]:  # fmt: skip
        with _clearly():
            answer = service.matrix(lines, model, samples, steps, seed, _reporting(stops.begin(request), progress))
        return answer.head + answer.body, gr.Textbox(value=answer.table, visible=True)

    drawing = draw.click(compare, asked, [heat, table], concurrency_id="model", concurrency_limit=limits.jobs, api_name="matrix")
    stop.click(stops.stop, cancels=drawing, queue=False, api_visibility="private")


HOW_A_RUN_COMES = (
    "<p>There is none yet. <code>conjure bench --out FOLDER/NAME</code> writes one, and <code>conjure app --runs FOLDER</code> "
    "lists it here when the page is loaded again.</p>"
)


def _runs_tab(blocks: gr.Blocks, service: Service) -> None:
    run = gr.Dropdown(service.finished(), label="Finished runs of conjure bench", value=None, elem_id="run")
    report = gr.HTML(elem_id="report")

    def look(name: str | None) -> str:
        with _clearly():
            return _framed(service.report(name)) if name else "" if service.finished() else HOW_A_RUN_COMES

    def names() -> tuple[Any, str]:
        return gr.Dropdown(choices=service.finished(), value=None), look(None)

    run.change(look, run, report, api_name="run")
    blocks.load(names, None, [run, report], queue=False, api_visibility="private")


@contextlib.contextmanager
def _clearly() -> Iterator[None]:
    """What a visitor got wrong is told to him in one line."""
    try:
        yield
    except (InputError, StoppedError) as error:
        told = str(error) or "stopped"
        raise gr.Error(html.escape(told), print_exception=False, title="Not possible" if str(error) else "Stopped") from error


def _notices(told: Sequence[str]) -> str:
    return "".join(f"<p>Note: {html.escape(printable(one))}</p>" for one in told)


def _number(found: Explanation, told: Sequence[str]) -> str:
    """The distance so far, with its interval."""
    estimate = found.estimate
    return (
        f'<p style="font-size:1.4rem;font-weight:600;margin:0">{html.escape(str(estimate))}</p>'
        f"<p>{html.escape(estimate.divergence)}, {html.escape(estimate.unit)}; "
        f"{counted(len(estimate.samples), 'sample')} so far</p>{_notices(told)}"
    )


def _grid(found: Explanation) -> str:
    """Figure 1 as far as it is decoded: for both directions the noisy pictures, above and below what the texts take them for."""
    parts = []
    for side in (found.forward, found.backward):
        picture = mosaic(np.stack([side.first, side.noisy, side.second]), largest=max(32, 1280 // len(side.noisy)))
        parts.append(
            f'<figure style="margin:.5rem 0"><figcaption>along what {html.escape(quoted(side.text, 60))} conjures</figcaption>'
            '<img style="width:100%;image-rendering:pixelated" alt="noisy pictures, and what either text takes them for" '
            f'src="{address(picture)}"></figure>'
        )
    return "".join(parts)


def _heat(found: Matrix) -> str:
    names = html.escape(", ".join(printable(text) for text in found.texts))
    shown = picture_address(heat_map_bytes(found, "png"), "png")
    return f'<img style="max-width:100%;background:#fff" alt="distances of {names}" src="{shown}">'


# A frame can reach nothing of the app's, nor the app what is in it: so it tells how high it is.
TELLS_HEIGHT = """<script>
new ResizeObserver(() => parent.postMessage({height: document.documentElement.getBoundingClientRect().height}, "*"))
  .observe(document.documentElement);
</script>"""
GIVES_HEIGHT = """<script>
addEventListener("message", ({data, source}) => {
  const frame = [...document.querySelectorAll("iframe.page")].find(one => one.contentWindow === source);
  if (frame && data?.height > 0 && data.height < 1e5) frame.style.height = `${Math.ceil(data.height)}px`;
});
</script>"""


def _framed(document: str) -> str:
    """A page of ours within the app, in a sandboxed frame of its own that is as high as the page."""
    return (
        '<iframe class="page" sandbox="allow-scripts" title="result" style="width:100%;border:0;background:Canvas" '
        f'srcdoc="{html.escape(document + TELLS_HEIGHT)}"></iframe>'
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
    warnings.simplefilter("always", TextCutWarning)
    warnings.showwarning = _notice
    threading.Thread(target=service.prepare, daemon=True).start()
    fonts = ["system-ui", "sans-serif"]  # none that a browser would fetch from elsewhere
    try:
        _, place, _ = build(service).launch(
            server_name=host, server_port=port, auth=user, share=False, quiet=True, prevent_thread_lock=True, show_error=False,
            theme=gr.themes.Default(font=fonts, font_mono=["monospace"]), footer_links=[], max_file_size=0, ssr_mode=False,
            head=GIVES_HEIGHT,
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot listen at {host}, port {port or 'from 7860 on'}: {error}; give another --port") from error
    print(f"Conjure listens at {place}", flush=True)
    if wait:
        threading.Event().wait()
    return place
