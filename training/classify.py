"""Does the model see what a text says? As a diffusion classifier (Li et al. 2023), it must know a picture's caption among twenty.

python training/classify.py      # writes results/classifier.json

The caption under which noise is removed best, on the same noise for all, is the one it chooses. Asked of held-out pictures of
things whose names it was trained on, and of pictures of things whose names it never saw, each among names of its own kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from scipy.stats import binomtest

import conjure
import views
from conjure.document import Table
from conjure.process import Process

HERE = Path(__file__).parent
SIZE = 64
CAPTIONS = 20
KNOWN, UNSEEN = "held-out pictures of known things", "pictures of things whose names it never saw"
DRAWN = "what it draws for known things"
LEVELS = tuple(range(40, 1000, 40))  # timesteps, each with a draw of noise of its own


@torch.no_grad()
def losses(process: Process, picture: np.ndarray, captions: list[str], seed: int) -> np.ndarray:
    """Mean denoising loss of `picture`, uint8 (size, size, 3), under each caption: (captions,)."""
    pipeline: Any = process.pipeline
    x0 = pipeline.vae.encode(views.as_tensor(picture[None])).latents * pipeline.vae.config.scaling_factor
    eps = torch.randn(len(LEVELS), *x0.shape[1:], generator=torch.Generator().manual_seed(seed))
    t = torch.tensor(LEVELS)
    noising = pipeline.scheduler
    noisy, target = noising.add_noise(x0.expand_as(eps), eps, t), noising.get_velocity(x0.expand_as(eps), eps, t)
    limit = process.call.get("max_sequence_length", 120)
    states, mask, *_ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False, max_sequence_length=limit,
                                              clean_caption=False)  # fmt: skip
    longest = int(mask.sum(1).max())
    found = []
    for state, real in zip(states[:, :longest], mask[:, :longest], strict=True):
        many = len(LEVELS)
        said = pipeline.transformer(noisy, encoder_hidden_states=state.expand(many, -1, -1), timestep=t,
                                    encoder_attention_mask=real.expand(many, -1)).sample  # fmt: skip
        found.append(float((said - target).square().mean()))
    return np.array(found)


def known(data: views.Views) -> np.ndarray:
    """Held-out pictures of things that other pictures, of the same name, were trained on."""
    trained = {data.data.meanings[row].label for row in data.data.train}
    return np.array([row for row in data.data.held_out if data.data.meanings[row].label in trained])


def share(right: int, pictures: int) -> dict[str, Any]:
    """How many of the `pictures` were right, in percent, with the 95 % interval (Wilson)."""
    interval = binomtest(right, pictures).proportion_ci(method="wilson")
    ci95 = [round(100 * interval.low, 1), round(100 * interval.high, 1)]
    return {"pictures": pictures, "right": round(100 * right / pictures, 1), "ci95": ci95}


def accuracy(process: Process, data: views.Views, rows: np.ndarray, number: int, what: str) -> dict[str, Any]:
    """How often the right caption wins among `CAPTIONS`, with its 95 % interval, on `number` of the pictures `rows`."""
    rng = np.random.default_rng(0)
    labels = [meaning.label for meaning in data.data.meanings]
    names = sorted({labels[row] for row in rows})
    chosen = rng.permutation(rows)[:number]
    right = 0
    for row in track(chosen, what):
        others = [name for name in rng.permutation(names) if name != labels[row]][: CAPTIONS - 1]
        found = losses(process, data.view(int(row))[0], [labels[row], *others], seed=int(row))
        right += int(found.argmin() == 0)
    return {"captions": CAPTIONS, **share(right, len(chosen))}


@torch.no_grad()
def recognised(process: Process, data: views.Views, guidance: float, number: int) -> dict[str, Any]:
    """How often what is drawn for a name is nearest, in the autoencoder's latents, to a real picture of it, among `CAPTIONS`
    names of three pictures each. The denoiser has no say in it."""
    rng = np.random.default_rng(1)
    rows: dict[str, list[int]] = {}
    for row in data.data.train:
        rows.setdefault(data.data.meanings[row].label, []).append(int(row))
    names = sorted(name for name, some in rows.items() if len(some) >= 3)
    pipeline: Any = process.pipeline

    def latents(pictures: np.ndarray) -> torch.Tensor:
        return pipeline.vae.encode(views.as_tensor(pictures)).latents.flatten(1)

    asked = [str(name) for name in rng.permutation(names)[:number]]
    drawn = process.set(guidance=guidance).run(asked, range(len(asked)), output_type="np")
    right = 0
    for name, picture in zip(track(asked, f"drawing at guidance {guidance:g}"), drawn, strict=True):
        others = [str(other) for other in rng.permutation(names) if other != name][: CAPTIONS - 1]
        real = latents(np.stack([data.view(row)[0] for one in (name, *others) for row in rows[one][:3]]))
        own = latents((picture[None] * 255).round().astype(np.uint8))
        nearest = (real - own).square().sum(1).reshape(CAPTIONS, 3).min(1).values
        right += int(nearest.argmin() == 0)
    return {"guidance": guidance, **share(right, len(asked))}


def told(found: dict[str, Any]) -> str:
    """What `main` found, as a table in Markdown."""
    rows = [[f"{name}, the right caption among {CAPTIONS}", found[name]] for name in (KNOWN, UNSEEN)]
    rows += [
        [f"{DRAWN}, guidance {one['guidance']:g}: nearest to a real picture of it among {CAPTIONS}", one] for one in found[DRAWN]
    ]
    cells = [[name, f"{one['pictures']}", f"{one['right']:.1f} %", f"{one['ci95'][0]} to {one['ci95'][1]}"] for name, one in rows]
    return Table("classifier", ["", "pictures", "right", "95 % interval"], cells).markdown()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="default")
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "classifier.json")
    arguments = parser.parse_args()
    process, data = conjure.load(arguments.model), views.load(HERE / "cache", SIZE)
    found = {
        KNOWN: accuracy(process, data, known(data), arguments.number, "known things"),
        UNSEEN: accuracy(process, data, data.data.unseen, arguments.number, "unseen names"),
        DRAWN: [recognised(process, data, one, arguments.number) for one in (1.0, 2.0, 3.0, 5.0)],
        "identity": process.identity(),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
