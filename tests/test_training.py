"""The recipe keeps its promises: benchmark texts and unseen names are not trained on, texts look like the names near them."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

TRAINING = Path(__file__).parent.parent / "training"


@pytest.fixture(scope="module")
def recipe():
    pytest.importorskip("resvg_py", reason="the recipe needs the extra train")
    sys.path.insert(0, str(TRAINING))
    yield
    sys.path.remove(str(TRAINING))


@pytest.fixture
def allowed(recipe, monkeypatch, tmp_path):
    import left_out

    known = tmp_path / "left_out.txt"
    known.write_text("\n".join(left_out.digests("The act of constructing something!")))
    monkeypatch.setattr(left_out, "LIST", known)
    meanings = [SimpleNamespace(label=name) for name in ("coat", "Hard drive", "fish", "dog")]
    data: Any = SimpleNamespace(meanings=meanings, unseen=np.array([0, 1, 2]))
    return left_out.Allowed(data)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("the act of constructing something", False),
        ("Building construction: the act of constructing something.", False),
        ("the act of constructing something else", True),
        ("a red coat", False),
        ("two coats", False),
        ("coatings", True),
        ("harddrive", False),
        ("hard-drives", False),
        ("Fishes", False),
        ("a dog", True),
    ],
)
def test_left_out(allowed, text, fine):
    assert allowed(text) is fine


def test_short_texts_are_names(recipe):
    from left_out import digests

    assert digests("red apple") == set()
    assert digests("a red apple") == digests("A red apple.") != set()


def test_benchmarks_are_all_in_the_list(recipe, judgements):
    """What the recipe's list was made of is what it is to be made of: texts of the sets, by their hashes."""
    from conftest import SIMILARITY

    from left_out import LIST, digests, texts_of

    known = {one for text in texts_of(SIMILARITY) for one in digests(text)}
    assert set(LIST.read_text().split()) <= known


def test_captions_keep_their_distances(recipe):
    """What the denoiser hears of texts is as far apart as their vectors are, and training does not change that."""
    import torch

    import denoiser

    torch.manual_seed(0)
    projection = denoiser.build().caption_projection
    vectors = torch.randn(64, 384)
    heard = projection(vectors)
    far, near = torch.pdist(vectors), torch.pdist(heard)
    assert torch.corrcoef(torch.stack([far, near]))[0, 1] > 0.85
    assert (near / far).std() / (near / far).mean() < 0.03
    assert not any(parameter.requires_grad for parameter in projection.parameters())
    free = denoiser.build(denoiser.Recipe(free=True)).caption_projection
    assert all(parameter.requires_grad for parameter in free.parameters())


class FewCaptions:
    """Texts with vectors of their own, in the place of `captions.Captions`."""

    def __init__(self, vectors: dict[str, tuple[float, ...]]) -> None:
        import torch

        self.texts = ["", *vectors]
        self.vectors = torch.tensor([*vectors.values()])
        self.vectors = torch.cat([torch.zeros_like(self.vectors[:1]), self.vectors])

    def numbers(self, texts):
        return [self.texts.index(text) for text in texts if text in self.texts]


def test_texts_look_like_the_nearest_names(recipe, monkeypatch):
    import likeness

    monkeypatch.setattr(likeness, "NAMES", 2)
    captions: Any = FewCaptions(
        {
            "dog": (1, 0, 0),
            "cat": (0.99, 0.14, 0),
            "car": (0, 0, 1),
            "to bark": (0.999, 0, 0.04),
            "a ride": (0, 0.05, 2),
            "provette": (0, 0.05, 2),
        }
    )
    labels = ["dog", "car", "dog", "unseen", "cat", "provette"]
    meanings = [SimpleNamespace(label=name, key="animal" if name == "cat" else "") for name in labels]
    data: Any = SimpleNamespace(meanings=meanings, train=np.array([0, 1, 2, 4, 5]))
    monkeypatch.setattr(likeness, "texts", lambda net: iter(["to bark", "a ride", "left out"]))
    looks = likeness.Likeness(captions, cast(Any, SimpleNamespace(senses={"n": {"dog", "car"}})), data)
    rng = np.random.default_rng(0)
    drawn = [looks.draw(rng) for _ in range(400)]
    shown = {name: [labels[row] for row, number in drawn if captions.texts[number] == name] for name in ("to bark", "a ride")}
    assert len(drawn) == sum(map(len, shown.values()))
    assert set(shown["to bark"]) == {"dog", "cat"}
    assert shown["to bark"].count("dog") > shown["to bark"].count("cat") > 0
    assert set(shown["a ride"]) == {"car"}
    assert {row for row, _ in drawn} == {0, 1, 2, 4}


class KnowsPictures:
    """A denoiser that is right about noise, and takes every text for a picture as bright as the first number of its vector."""

    def __call__(self, noisy, encoder_hidden_states, timestep):
        import denoiser

        x0 = encoder_hidden_states[:, 0, 0][:, None, None, None].expand_as(noisy)
        signal = denoiser.scheduler().alphas_cumprod[timestep][:, None, None, None]
        eps = (noisy - signal.sqrt() * x0) / (1 - signal).sqrt()
        return SimpleNamespace(sample=signal.sqrt() * eps - (1 - signal).sqrt() * x0)


@pytest.mark.parametrize(
    ("shown", "own", "of_view", "chosen"),
    [
        ((1, -1), [1, 2], [[1], [2]], 0.0),  # told apart
        ((1, -1), [2, 1], [[2], [1]], None),  # the wrong way round
        ((1, 1), [1, 3], [[1], [3]], math.log(2)),  # two texts that look the same
        (
            (1, 1),
            [1, 3],
            [[1, 3], [1, 3]],
            0.0,
        ),  # but both are true of either picture
        ((1, -1), [1, 0], [[1], [2]], 0.0),  # no text is no wrong text, and none is asked for
    ],
)
def test_telling_texts_apart(recipe, monkeypatch, shown, own, of_view, chosen):
    """The last stage asks that a picture has less noise left under its own text than under others that are not true of it."""
    import torch

    import denoiser

    monkeypatch.setattr(denoiser, "WRONG", 1)
    vectors = torch.tensor([[0.0], [1.0], [-1.0], [1.0]])
    latents = torch.tensor(shown)[:, None, None, None].expand(-1, 16, 8, 8)
    task = denoiser.Task(cast(Any, KnowsPictures()), latents, vectors, of_view)

    def draw(rng, many):
        return np.arange(many), own

    noise = torch.Generator().manual_seed(0)
    errors = task.errors(np.arange(2), torch.tensor(own)[:, None], noise)
    loss = task.telling(cast(Any, draw), 2)(np.random.default_rng(0), torch.Generator().manual_seed(0))
    asked = (loss - errors.mean()) / denoiser.CONTRAST
    if chosen is None:
        assert asked > 1
    else:
        assert asked == pytest.approx(chosen, abs=1e-3)


class Sees:
    """A denoiser that says the first numbers of a text's vector, each so many times as `weights` say, beside what it is shown."""

    def __init__(self, *weights: float) -> None:
        import torch

        self.weights = torch.tensor(weights, requires_grad=True)

    def __call__(self, noisy, encoder_hidden_states, timestep):
        import torch

        heard = encoder_hidden_states[:, 0] * self.weights
        heard = torch.nn.functional.pad(heard, (0, noisy[0].numel() - heard.shape[1]))
        return SimpleNamespace(sample=noisy + timestep[:, None, None, None] + heard.view(noisy.shape))


@pytest.mark.parametrize(("now", "drifted"), [((1, 1, 1), False), ((3, 3, 3), False), ((1, 1, 3), True), ((1, 0, 1), True)])
def test_mending_keeps_how_texts_differ(recipe, monkeypatch, now, drifted):
    """Texts may come to matter more to the denoiser, but all in proportion to what they were to it before."""
    import torch

    import denoiser

    monkeypatch.setattr(denoiser.Task, "telling", lambda *_: lambda choose, noise: torch.tensor(0.25))
    vectors = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    model, before = Sees(*map(float, now)), Sees(1.0, 1.0, 1.0)
    task = denoiser.Task(cast(Any, model), torch.zeros(4, 16, 8, 8), vectors, [])

    def draw(rng, many):
        return np.arange(many), [0] * many

    loss = task.mending(cast(Any, draw), 8, cast(Any, before), np.arange(1, 2000))
    found = loss(np.random.default_rng(0), torch.Generator().manual_seed(0))
    found.backward()
    assert before.weights.grad is None
    assert model.weights.grad is not None
    if drifted:
        assert found > 0.27
        assert model.weights.grad.abs().max() > 1e-3
    else:
        assert found.item() == pytest.approx(0.25, abs=1e-4)


def test_known_things_were_trained_on(recipe):
    """A picture that was held out is of a known thing only if there was another of its name."""
    import classify

    meanings = [SimpleNamespace(label=name) for name in ("dog", "dog", "seo eye network", "cat")]
    data: Any = SimpleNamespace(data=SimpleNamespace(meanings=meanings, train=np.array([1, 3]), held_out=np.array([0, 2])))
    assert classify.known(data).tolist() == [0]


def test_third_stage_mends_behind_the_first_layers_old_hearing(recipe, monkeypatch, tmp_path):
    """It trains all of the denoiser, gives the first layers their cross-attention back, lets the others learn on, and goes
    a part of the way from what was before that. Hearing is evened last."""
    import torch

    import denoiser
    import loop

    vectors = {f"thing {i}": tuple(torch.randn(384, generator=torch.Generator().manual_seed(i)).tolist()) for i in range(8)}
    monkeypatch.setattr(denoiser, "Captions", lambda texts, cache: FewCaptions(vectors))
    monkeypatch.setattr(denoiser, "Allowed", lambda data: lambda text: True)
    monkeypatch.setattr(denoiser, "WordNet", lambda cache: None)
    monkeypatch.setattr(denoiser, "Likeness", lambda *_: SimpleNamespace(draw=lambda rng: (0, 1), texts=np.arange(1, 9)))
    monkeypatch.setattr(denoiser.likeness, "texts", lambda net: [])
    copied: list[int] = []

    def copy(row, rng):
        copied.append(row)
        return row

    sorts = (np.arange(6), np.arange(6, 8))
    data: Any = SimpleNamespace(data=None, train=sorts, held_out=sorts, copy=copy)
    part = loop.Schedule(samples=24, batch=8, rate=1e-2, warmup=1, average=0.5)
    few = denoiser.Recipe(telling=(part, part), mending=part, evened=None, heads=1, layers=4)
    start = denoiser.build(few)
    torch.nn.init.normal_(start.proj_out.weight)  # of zeros it would hand no gradient on
    before = {name: value.clone() for name, value in start.state_dict().items()}
    told = [[text] for text in vectors]
    latents, runs = torch.randn(8, 16, 8, 8), tmp_path / "runs"

    def train(recipe, share):
        """The same runs, going `share` of the way of the last; after the first time they are read from their checkpoints."""
        monkeypatch.setattr(denoiser, "MENDED", share)
        start.load_state_dict(before)
        trained = denoiser.train(data, latents, told, tmp_path, runs, recipe, start).state_dict()
        return {name: value.clone() for name, value in trained.items()}

    trained, ended, unmended = train(few, 0.25), train(few, 1), train(replace(few, mending=None), 0.25)

    def same(name):
        return torch.equal(ended[f"transformer_blocks.{name}.weight"], before[f"transformer_blocks.{name}.weight"])

    assert [same(f"{layer}.attn2.to_v") for layer in range(4)] == [True, True, True, False]
    assert not any(same(f"{layer}.attn1.to_v") for layer in range(4))
    assert sorted(path.parent.name for path in tmp_path.glob("runs/*/losses.csv")) == ["mending", "telling-1", "telling-2"]
    for name, weights in trained.items():
        torch.testing.assert_close(weights, unmended[name].lerp(ended[name], 0.25))
    assert not torch.allclose(unmended["proj_out.weight"], ended["proj_out.weight"])
    start.load_state_dict(trained)
    denoiser.even(start, FewCaptions(vectors).vectors, 0.5)
    evened = {name: value.clone() for name, value in start.state_dict().items()}
    for name, weights in train(replace(few, evened=0.5), 0.25).items():  # the last of all
        torch.testing.assert_close(weights, evened[name])
    assert len(copied) == 2 * 24


@pytest.mark.parametrize("power", [1, 0.5, 0])
def test_layers_hear_the_directions_of_texts_evenly(recipe, power):
    """By singular values to a power, as much as before in all, and the text in the middle just as before."""
    import torch

    import denoiser

    torch.manual_seed(0)
    model = denoiser.build(denoiser.Recipe(heads=1, layers=2))
    for weights in model.parameters():
        if weights.ndim == 1:
            torch.nn.init.normal_(weights)  # the biases matter as well
    vectors = torch.randn(100, 384) + torch.linspace(-1, 1, 384)
    texts = torch.cat([vectors, vectors.mean(0, keepdim=True)])

    @torch.no_grad()
    def heard():
        hearing = [(block.attn2.to_v, block.attn2.to_out[0]) for block in model.transformer_blocks]
        return [(out(value(said)), out.weight @ value.weight) for value, out in hearing]

    said = model.caption_projection(texts).detach()
    before = heard()
    denoiser.even(model, vectors, power)
    for (old, matrix), (new, evened) in zip(before, heard(), strict=True):
        left, singular, right = torch.linalg.svd(matrix)
        wanted = left * singular**power @ right
        wanted *= matrix.norm() / wanted.norm()
        torch.testing.assert_close(evened, wanted, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(new, old[-1] + (said - said[-1]) @ wanted.T, rtol=1e-3, atol=1e-3)
        if power == 1:
            torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-3)


def test_a_run_goes_on_from_its_own_checkpoint_alone(recipe, tmp_path):
    import torch

    import loop

    schedule = loop.Schedule(samples=8, batch=2, rate=1e-2, warmup=1)

    def fit(value):
        model = torch.nn.Linear(3, 1)
        torch.nn.init.constant_(model.weight, value)
        torch.nn.init.zeros_(model.bias)

        def loss(choose, noise):
            return model(torch.randn(4, 3, generator=noise)).square().mean()

        loop.fit(model, schedule, loss, loss, tmp_path)
        return model.weight.detach()

    first = fit(1.0)
    assert not torch.equal(first, torch.ones(1, 3))
    torch.testing.assert_close(fit(1.0), first)
    with pytest.raises(SystemExit, match="began with other weights"):
        fit(2.0)


def test_copies_of_single_pictures(recipe, monkeypatch):
    """A copy has the captions of its picture and stands otherwise on the page, mirrored only where that says the same."""
    import pictographs
    import views

    pixels = np.zeros((2, 64, 64, 4), np.uint8)
    pixels[:, 24:40, 10:22, 3] = 255  # black, left of the middle
    meanings: Any = [SimpleNamespace(label=name) for name in ("box", "left arrow")]
    known = views.Views(pictographs.Pictographs(pixels, meanings, [["a box"], ["an arrow"]]), 64, scenes=10)
    rng = np.random.default_rng(0)
    assert len(known) == 2 * (1 + views.COPIES) + 10
    assert {known.copy(1, rng) for _ in range(200)} == {1, *range(known.originals + views.COPIES, len(known))}
    assert known.copy(7, rng) == 7  # a scene
    assert not set(np.concatenate(known.train)) & set(range(known.originals, len(known)))

    def middle(row):
        shown, captions = known[row]
        assert captions == known.view((row - known.originals) // views.COPIES)[1]
        assert shown.shape == (64, 64, 3)
        assert shown[0, 0].tolist() == [255, 255, 255]
        np.testing.assert_array_equal(shown, known[row][0])
        dark = np.argwhere(shown[..., 0] < 128)
        assert 60 < len(dark) < 400  # 192 as it was
        return dark[:, 1].mean()

    monkeypatch.setattr(views, "COPIES", 20)
    across = [middle(known.originals + i) for i in range(40)]
    assert any(where > 32 for where in across[:20])
    assert any(where < 32 for where in across[:20])
    assert all(where < 32 for where in across[20:])
    assert len({round(where, 3) for where in across}) > 30
