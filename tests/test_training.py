"""Tests of the training recipe: excluded captions, the training data, the loss functions, and a complete run of a tiny model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

TRAINING_FOLDER = Path(__file__).parent.parent / "training"
PIXELS_AS_LATENTS = SimpleNamespace(encode=lambda x: SimpleNamespace(latents=x))


@pytest.fixture(scope="module")
def training():
    """Make the modules of the recipe importable."""
    pytest.importorskip("resvg_py", reason="the training recipe needs the extra train")
    sys.path.insert(0, str(TRAINING_FOLDER))
    yield
    sys.path.remove(str(TRAINING_FOLDER))


@pytest.fixture
def caption_filter(training, monkeypatch, tmp_path):
    import contamination

    hash_file = tmp_path / "contamination.txt"
    hash_file.write_text("\n".join(contamination.caption_hashes("The act of constructing something!")))
    monkeypatch.setattr(contamination, "HASH_FILE", hash_file)
    concepts = [SimpleNamespace(label=name) for name in ("coat", "Hard drive", "fish", "dog")]
    drawings: Any = SimpleNamespace(concepts=concepts, unseen_indices=np.array([0, 1, 2]))
    return contamination.CaptionFilter(drawings)


@pytest.mark.parametrize(
    ("caption", "is_allowed"),
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
def test_unseen_names_and_benchmark_texts_are_excluded(caption_filter, caption, is_allowed):
    assert caption_filter(caption) is is_allowed


def test_texts_of_one_or_two_words_are_not_hashed(training):
    from contamination import caption_hashes

    assert caption_hashes("red apple") == set()
    assert caption_hashes("a red apple") == caption_hashes("A red apple.") != set()


def test_excluded_hashes_are_hashes_of_benchmark_texts(training, human_ratings):
    from contamination import HASH_FILE, caption_hashes, read_texts
    from rated_pairs import RATINGS

    benchmark_hashes = {digest for text in read_texts(RATINGS) for digest in caption_hashes(text)}
    assert set(HASH_FILE.read_text().split()) <= benchmark_hashes


def test_caption_projection_preserves_distances(training):
    """The fixed projection is close to an isometry and is not trained."""
    import torch

    import denoiser

    torch.manual_seed(0)
    projection = denoiser.build().caption_projection
    vectors = torch.randn(64, 384)
    distances, projected_distances = torch.pdist(vectors), torch.pdist(projection(vectors))
    ratio = projected_distances / distances
    assert torch.corrcoef(torch.stack([distances, projected_distances]))[0, 1] > 0.85
    assert ratio.std() / ratio.mean() < 0.03
    assert not any(parameter.requires_grad for parameter in projection.parameters())


class FakeCaptionEmbeddings:
    """Replacement of `captions.CaptionEmbeddings` with given vectors."""

    def __init__(self, vectors: dict[str, tuple[float, ...]]) -> None:
        import torch

        self.texts = ["", *vectors]
        self.vectors = torch.tensor([*vectors.values()])
        self.vectors = torch.cat([torch.zeros_like(self.vectors[:1]), self.vectors])

    def indices(self, texts):
        return [self.texts.index(text) for text in texts if text in self.texts]


def test_texts_are_shown_by_drawings_of_the_nearest_names(training, monkeypatch):
    import torch

    import nearest_concepts
    import trainer

    monkeypatch.setattr(nearest_concepts, "NUM_NEAREST", 2)
    captions: Any = FakeCaptionEmbeddings(
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
    concepts = [SimpleNamespace(label=name, subgroup="animal" if name == "cat" else "") for name in labels]
    drawings: Any = SimpleNamespace(concepts=concepts, train_indices=np.array([0, 1, 2, 4, 5]))
    monkeypatch.setattr(nearest_concepts, "wordnet_texts", lambda wordnet: iter(["to bark", "a ride", "excluded"]))
    wordnet: Any = SimpleNamespace(senses={"n": {"dog", "car"}})
    nearest = nearest_concepts.NearestConcepts(captions, wordnet, drawings, torch.zeros(6, 1))
    texts, names_drawn = nearest.sample(400, torch.Generator(trainer.DEVICE).manual_seed(0))
    samples = [
        (drawing, int(text))
        for text, name in zip(texts, names_drawn, strict=True)
        for drawing in nearest.drawing_indices[int(name)]
    ]
    names = {
        text: [labels[drawing] for drawing, caption in samples if captions.texts[caption] == text]
        for text in ("to bark", "a ride")
    }
    assert set(names["to bark"]) == {"dog", "cat"}
    assert names["to bark"].count("dog") > names["to bark"].count("cat") > 0
    assert set(names["a ride"]) == {"car"}
    assert {drawing for drawing, _ in samples} == {0, 1, 2, 4}


def test_relation_loss_ignores_a_common_factor(training):
    """It is zero if distances between predictions are proportional to those between texts, and finite for equal predictions."""
    import torch

    from relations import relation_loss

    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 8, 384, generator=generator)
    rotation = torch.linalg.qr(torch.randn(384, 384, generator=generator)).Q
    assert relation_loss(0.3 * vectors @ rotation, vectors) < 1e-6
    collapsed = vectors.clone().requires_grad_()
    loss = relation_loss(collapsed * torch.linspace(0, 2, 384), vectors)
    assert loss > 1e-4
    equal = torch.zeros(3, 8, 384, requires_grad=True)
    relation_loss(equal, vectors).backward()
    assert equal.grad is not None
    assert equal.grad.isfinite().all()


def test_texts_of_the_relation_term(training):
    """A group has two texts, a definition with its changed copy, and points at 3% to 70% of the way between two of them."""
    import torch

    from relations import TextSampler
    from trainer import DEVICE

    vectors = torch.eye(384, device=DEVICE) * 384**0.5
    sampler = TextSampler(vectors, torch.arange(50, device=DEVICE), torch.tensor([[100, 101], [102, 103]], device=DEVICE))
    groups = sampler(200, torch.Generator(DEVICE).manual_seed(0))
    assert groups.shape == (200, 8, 384)
    torch.testing.assert_close(groups.square().mean(-1), torch.ones(200, 8, device=DEVICE))
    indices = groups[:, :4].argmax(-1)
    assert (indices[:, :2] < 50).all()
    assert {tuple(pair) for pair in indices[:, 2:].tolist()} == {(100, 101), (102, 103)}
    own, other = (groups[:, 4:].gather(2, place[..., None])[..., 0] for place in (indices, indices.roll(1, 1)))
    position = (other / (own + other))[(indices != indices.roll(1, 1))]
    assert 0.03 <= position.min() < 0.04
    assert 0.5 < position.max() <= 0.7


def test_changed_definitions(training):
    from relations import changed_definitions

    synsets = {
        ("n", 1): SimpleNamespace(lemmas=("apple",), definition="fruit with red skin"),
        ("n", 2): SimpleNamespace(lemmas=("fruit", "New York"), definition="of a plant"),
        ("v", 3): SimpleNamespace(lemmas=("walk",), definition="move like fruit"),
    }
    ((definition, changed),) = changed_definitions(cast(Any, SimpleNamespace(synsets=synsets, common=set(synsets))))
    assert definition == "fruit with red skin"
    assert changed in ("apple with red skin", "fruit with red skin")


def test_reconstruction_loss(training):
    """An error without gradients costs its mean and its mean square; a step in it also costs its gradients."""
    import torch

    from autoencoder import reconstruction_loss

    images = torch.zeros(1, 3, 4, 4)
    assert reconstruction_loss(images + 0.5, images) == pytest.approx(0.75)
    decoded = images.clone()
    decoded[..., 2:] = 1
    assert reconstruction_loss(decoded, images) == pytest.approx(0.5 + 0.5 + 1 / 3)


def test_trained_names_have_training_drawings(training):
    """A held-out drawing counts as one of a trained name only if there is a training drawing of the same name."""
    import zero_shot_classification

    concepts = [SimpleNamespace(label=name) for name in ("dog", "dog", "seo eye network", "cat")]
    drawings = SimpleNamespace(concepts=concepts, train_indices=np.array([1, 3]), held_out_indices=np.array([0, 2]))
    images: Any = SimpleNamespace(drawings=drawings)
    assert zero_shot_classification.held_out_with_trained_names(images).tolist() == [0]


def test_generated_images_are_also_compared_without_the_typical_drawings(training, monkeypatch):
    """An image that only copies the most typical drawing of its name is not recognised among the other drawings."""
    import zero_shot_classification

    levels = {"copied": (70, 100, 130), "near": (109, 110, 111)} | {f"far {i}": (i, i + 1, i + 2) for i in range(0, 54, 3)}
    labels = [name for name in levels for _ in range(3)]
    pixels = np.array([level for name in levels for level in levels[name]], np.uint8)

    def over_white(indices):
        return np.broadcast_to(pixels[indices][:, None, None, None], (len(indices), 2, 2, 3)).copy()

    concepts = [SimpleNamespace(label=label) for label in labels]
    drawings = SimpleNamespace(concepts=concepts, train_indices=np.arange(len(labels)), over_white=over_white)
    process: Any = SimpleNamespace(pipeline=SimpleNamespace(vae=PIXELS_AS_LATENTS))
    images: Any = SimpleNamespace(drawings=drawings)
    monkeypatch.setattr(zero_shot_classification, "choose_prompts", lambda by_name, number, rng: ["copied", "near"])
    monkeypatch.setattr(zero_shot_classification, "generate", lambda *args: over_white([1, 4]))
    result, _ = zero_shot_classification.classify_generated(process, images, [5.0, 9.0], 2)
    assert (result["guidance"], result["accuracy"]) == (5.0, 100.0)
    assert result[zero_shot_classification.UNTYPICAL]["accuracy"] == 50.0


@pytest.fixture
def tiny_images(training, monkeypatch):
    """Twelve drawings of coloured squares and four scenes, with captions that have random embeddings."""
    import torch

    import augmentation
    import denoiser_training
    import nearest_concepts
    import pictographs

    monkeypatch.setattr(
        augmentation, "compose", lambda roles, size, seed, i: (np.full((size, size, 3), 50 * i, np.uint8), [f"scene {i}"])
    )
    monkeypatch.setattr(augmentation.TrainingImages, "roles", None)
    monkeypatch.setattr(augmentation.os, "cpu_count", lambda: 0)
    pixels = np.zeros((12, 64, 64, 4), np.uint8)
    pixels[:, 16:48, 16:48] = np.random.default_rng(0).integers(0, 255, (12, 1, 1, 4))
    labels = [f"thing {i}" for i in range(12)]
    concepts: Any = [SimpleNamespace(label=label, subgroup="thing") for label in labels]
    drawings = pictographs.Pictographs(pixels, concepts, [[label] for label in labels])
    monkeypatch.setattr(pictographs.Pictographs, "unseen_indices", np.array([11]))
    monkeypatch.setattr(pictographs.Pictographs, "held_out_indices", np.array([0]))
    texts = [*labels, *(f"scene {i}" for i in range(4)), "to walk", "a long walk", "a long pear"]
    vectors = {text: tuple(torch.randn(384, generator=torch.Generator().manual_seed(i)).tolist()) for i, text in enumerate(texts)}
    monkeypatch.setattr(denoiser_training, "CaptionEmbeddings", lambda texts, cache: FakeCaptionEmbeddings(vectors))
    monkeypatch.setattr(denoiser_training, "CaptionFilter", lambda drawings: lambda caption: True)
    monkeypatch.setattr(denoiser_training, "WordNet", lambda cache: SimpleNamespace(senses={"n": {}}))
    monkeypatch.setattr(denoiser_training.relations, "changed_definitions", lambda wordnet: [("a long walk", "a long pear")])
    for module in (denoiser_training, nearest_concepts):
        monkeypatch.setattr(module, "wordnet_texts", lambda wordnet: iter(["to walk", "a long walk"]))
    return augmentation.TrainingImages(drawings, 64, num_scenes=4)


def test_recipe_trains_resumes_and_writes_a_model_that_loads(tiny_images, monkeypatch, tmp_path):
    """A run that is stopped in the second stage and resumed gives the same model as a run without a stop."""
    import torch

    import conjure
    import train
    import trainer
    from recipe import Recipe

    schedule = trainer.Schedule(samples=24, batch_size=8, learning_rate=1e-3, warmup_steps=1)
    recipe = Recipe(
        autoencoder=schedule, denoising=replace(schedule, samples=32), finishing=replace(schedule, samples=16),
        channels=8, heads=1, layers=1,
        denoising_batches=replace(Recipe().denoising_batches, relations=0.5),
        finishing_batches=replace(Recipe().finishing_batches, relations=0.5),
    )  # fmt: skip

    def run(name):
        (tmp_path / name).mkdir(exist_ok=True)
        train.train(tiny_images, recipe, tmp_path / name, tmp_path / name / "runs", tmp_path / name / "out")

    run("complete")
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    step_generator = trainer.step_generator

    def stop(seed, step):
        if (seed, step) == (0, 2) and (tmp_path / "stopped" / "runs" / "denoiser").exists():
            raise KeyboardInterrupt
        return step_generator(seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "step_generator", stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    assert torch.load(tmp_path / "stopped" / "runs" / "denoiser" / "checkpoint.pt", weights_only=True)["step"] == 2
    run("stopped")
    processes = [conjure.load(tmp_path / name / "out", steps=2) for name in ("complete", "stopped")]
    assert processes[0].guidance == train.PROCESS_SETTINGS["guidance"]
    weights = [process.pipeline.transformer.state_dict() for process in processes]
    for name, values in weights[0].items():
        torch.testing.assert_close(values, weights[1][name])
    assert weights[0]["proj_out.weight"].abs().max() > 0
    assert conjure.distance(processes[0], "cat", "dog", samples=1).distance > 0


def test_shipped_settings_are_those_of_the_recipe(training):
    """Guidance and unit decide what the distances of the weights are, and latents must not be clipped to the range of pixels."""
    import denoiser
    import train
    from conjure.models.default_model import FOLDER

    assert json.loads((FOLDER / "conjure.json").read_text()) == train.PROCESS_SETTINGS
    shipped = json.loads((FOLDER / "scheduler" / "scheduler_config.json").read_text())
    expected = {key: value for key, value in denoiser.make_scheduler().config.items() if not key.startswith("_")}
    assert {key: shipped.get(key) for key in expected} == expected
    assert not shipped["clip_sample"]


def test_last_stage_starts_from_a_model(tiny_images, monkeypatch, tmp_path):
    """`--start` keeps the autoencoder and the rotation of the texts, and trains all other weights of the denoiser.

    The result is the mean of the weights before and after it.
    """
    import torch

    import conjure
    import train
    import trainer
    from recipe import Recipe

    schedule = trainer.Schedule(samples=16, batch_size=8, learning_rate=1e-3, warmup_steps=1)
    recipe = Recipe(schedule, schedule, schedule, channels=8, heads=1, layers=1, finishing_share=0.5)
    train.train(tiny_images, recipe, tmp_path, tmp_path / "runs", tmp_path / "out")
    train.train(tiny_images, recipe, tmp_path, tmp_path / "again", tmp_path / "finished", start=tmp_path / "out")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["finishing"]
    before, after = (conjure.load(tmp_path / name).pipeline for name in ("out", "finished"))
    for component in ("vae", "transformer"):
        old, new = (getattr(pipeline, component).state_dict() for pipeline in (before, after))
        changed = {name for name in old if not old[name].equal(new[name])}
        # with a single token, the weights of attention to the text are constant, so its queries and keys have no effect
        kept = ("caption_projection", "pos_embed.pos_embed", "attn2.to_q", "attn2.to_k")
        trained = {name for name in old if not any(part in name for part in kept)}
        assert changed == (set() if component == "vae" else trained)
        alone = replace(recipe, finishing_share=1.0)
        train.train(tiny_images, alone, tmp_path, tmp_path / "again", tmp_path / "alone", start=tmp_path / "out")
        finished = getattr(conjure.load(tmp_path / "alone").pipeline, component).state_dict()
        for name, values in new.items():
            torch.testing.assert_close(values, (old[name] + finished[name]) / 2, rtol=1e-3, atol=1e-4)


def test_steps_with_infinite_gradients_are_skipped(training, tmp_path):
    import torch

    import trainer

    schedule = trainer.Schedule(samples=8, batch_size=1, learning_rate=1e-2, warmup_steps=1)
    model = torch.nn.Linear(3, 1).to(trainer.DEVICE)
    calls: list[int] = []

    def loss(generator):
        calls.append(len(calls))
        value = model(trainer.randn((4, 3), generator)).square().mean()
        return value * float("nan") if len(calls) % 2 else value

    trainer.fit(model, schedule, loss, loss, tmp_path / "half")
    assert all(values.isfinite().all() for values in model.parameters())

    model.to(trainer.DEVICE)
    long = replace(schedule, samples=200)
    with pytest.raises(SystemExit, match="not finite"):
        trainer.fit(model, long, lambda generator: loss(generator) * float("nan"), loss, tmp_path / "all")


def test_a_run_resumes_only_from_its_own_checkpoint(training, tmp_path):
    import torch

    import trainer

    schedule = trainer.Schedule(samples=8, batch_size=2, learning_rate=1e-2, warmup_steps=1)

    def fit(initial_weight, settings=None):
        model = torch.nn.Linear(3, 1).to(trainer.DEVICE)
        torch.nn.init.constant_(model.weight, initial_weight)
        torch.nn.init.zeros_(model.bias)

        def loss(generator):
            return model(trainer.randn((4, 3), generator)).square().mean()

        trainer.fit(model, schedule, loss, loss, tmp_path, settings)
        return model.weight.detach()

    first = fit(1.0)
    assert not torch.equal(first, torch.ones(1, 3))
    torch.testing.assert_close(fit(1.0), first)
    with pytest.raises(SystemExit, match="other weights at the start"):
        fit(2.0)
    with pytest.raises(SystemExit, match="other settings or data"):
        fit(1.0, "other data")
    schedule = replace(schedule, learning_rate=1.0)
    with pytest.raises(SystemExit, match="other settings or data"):
        fit(1.0)


def test_augmented_copies(training):
    """Copies are moved, are white outside of the image, and are mirrored only if the name allows it."""
    import torch

    import augmentation

    images = torch.ones(40, 3, 64, 64)
    images[:, :, 24:40, 10:22] = -1  # a black rectangle, left of the middle
    may_mirror = torch.arange(40) < 20
    copies = augmentation.augment(images, may_mirror, torch.Generator().manual_seed(0))
    assert copies.shape == images.shape
    assert copies.min() >= -1
    assert (copies[:, :, 0, 0] == 1).all()
    dark = (copies[:, 0] < 0).float()
    columns = (dark.sum(1) * torch.arange(64)).sum(1) / dark.sum((1, 2))
    assert (columns[:20] > 32).any()
    assert (columns[:20] < 32).any()
    assert (columns[20:] < 32).all()
    assert len({round(float(column), 3) for column in columns}) > 30


def test_copies_of_drawings_have_the_indices_of_their_latents(training):
    """Only drawings are replaced by copies, and every copy belongs to a drawing that was drawn."""
    import torch

    import augmentation
    from batch_sampler import BatchSampler
    from recipe import Batches
    from trainer import DEVICE

    captions = [[1], [2], [], [4], [5]]
    # without names, the first and the last share do not count
    batches = Batches(typical=0.5, drawings=0.5, scenes=0.3, texts=0.2, relations=0, timestep_draws=1)
    sampler = BatchSampler((np.array([0, 1, 2]), np.array([3, 4])), None, batches, captions, num_drawings=3)
    latents, texts = sampler(800, torch.Generator(DEVICE).manual_seed(0))
    is_copy = latents >= len(captions)
    drawing = torch.where(is_copy, (latents - len(captions)) % 3, latents)
    assert set(drawing.tolist()) == {0, 1, 3, 4}
    assert set(((latents - len(captions)) // 3)[is_copy].tolist()) == set(range(augmentation.NUM_COPIES))
    assert 0.5 < is_copy[drawing < 3].float().mean() < 0.75
    assert (drawing >= 3).sum() == 300
    dropped = texts == 0
    assert 0.05 < dropped.float().mean() < 0.15
    assert (texts[~dropped] == drawing[~dropped] + 1).all()


def test_most_typical_image_has_the_nearest_others(training):
    import torch

    from nearest_concepts import most_typical

    latents = torch.tensor([[9.0], [0.0], [1.0], [3.0], [50.0]])
    assert most_typical(latents, [0, 1, 2]) == 2
    assert most_typical(latents, [0, 3, 4]) == 0
    assert most_typical(latents, [4]) == 4


def test_last_stage_shows_typical_drawings(training):
    """A name, also as the nearest name of a text, is shown by its most typical drawing; half of the names come alone.

    A name with fewer than three drawings, or a collection of more than twenty, is not shown for itself.
    """
    import torch

    from batch_sampler import BatchSampler
    from recipe import Batches
    from trainer import DEVICE, sample

    def nearest_names(number, generator):
        names = sample(torch.tensor([0, 1], device=DEVICE), number, generator)
        return names + 20, names

    nearest: Any = SimpleNamespace(
        name_indices=[10, 11, 12], drawing_indices=[[0, 1, 1], [2, 2], [3] * 21], typical_drawings=[1, 2, 3], sample=nearest_names
    )
    captions = [[10, 12], [10, 13], [11, 14], [15], [16]]
    indices = (np.array([0]), np.array([3, 4]))

    def draw(**shares):
        sampler = BatchSampler(indices, nearest, Batches(**shares, relations=0, timestep_draws=1), captions)
        return [values.tolist() for values in sampler(2000, torch.Generator(DEVICE).manual_seed(0))]

    drawings, texts = draw(typical=0.5, drawings=0.2, scenes=0.1, texts=0.2)
    pairs = list(zip(drawings, texts, strict=True))
    assert [drawings.count(i) for i in (0, 3)] == [400, pytest.approx(100, abs=40)]
    assert {drawing for drawing, text in pairs if text == 20} == {1}
    assert {drawing for drawing, text in pairs if text == 21} == {2}
    assert {text for drawing, text in pairs if drawing == 2} == {0, 21}
    named = [text for drawing, text in pairs if drawing == 1 and text not in (0, 20)]
    assert set(named) == {10, 13}
    assert named.count(10) / len(named) == pytest.approx(0.75, abs=0.08)
    drawings, texts = draw(typical=0, drawings=0.5, scenes=0.3, texts=0.2)
    assert {drawing for drawing, text in zip(drawings, texts, strict=True) if text == 20} == {0, 1}


@pytest.fixture
def sun_and_sea(training, monkeypatch):
    """Drawings of a sun and of a sea, one of each held out, with a name of two drawings and the name of a collection."""
    import augmentation
    import pictographs

    labels = ["sun"] * 7 + ["sea"] * 7 + ["rare"] * 2 + ["collection"] * 22
    pixels = np.zeros((len(labels), 32, 32, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:7, 8:24, 8:24, 0] = np.linspace(150, 255, 7)[:, None, None]  # red squares
    pixels[7:14, 16:, :, 2] = np.linspace(150, 255, 7)[:, None, None]  # blue lower halves
    concepts: Any = [SimpleNamespace(label=label) for label in labels]
    monkeypatch.setattr(pictographs.Pictographs, "unseen_indices", np.array([], int))
    monkeypatch.setattr(pictographs.Pictographs, "held_out_indices", np.array([2, 9, 14, 20]))
    return augmentation.TrainingImages(pictographs.Pictographs(pixels, concepts, [[label] for label in labels]), 32, num_scenes=0)


def test_classifier_of_drawings_learns_from_training_drawings_alone(sun_and_sea, monkeypatch, tmp_path):
    """It recognises held-out drawings, and its weights do not depend on them."""
    import torch

    import drawing_classifier
    import trainer

    monkeypatch.setattr(trainer, "LOG_INTERVAL", 5)
    monkeypatch.setattr(drawing_classifier, "WIDTHS", (4, 8, 8, 8))
    drawings = drawing_classifier.split(sun_and_sea, PIXELS_AS_LATENTS)
    assert drawings.names == ["sea", "sun"]  # at least 3 and at most 20 training drawings
    # one of the two medians of each name, which are equally typical, is left out
    left_out = {7, 8, 10, 11, 12, 13, 0, 1, 3, 4, 5, 6} - set(drawings.train_indices.tolist())
    assert sorted(map(len, (left_out & {10, 11}, left_out & {3, 4}))) == [1, 1]
    assert len(left_out) == 2
    assert drawings.train_labels.tolist() == [0] * 5 + [1] * 5
    assert (drawings.held_out_indices.tolist(), drawings.held_out_labels.tolist()) == ([2, 9], [1, 0])
    held_out = sun_and_sea.drawings.over_white(drawings.held_out_indices)
    schedule = trainer.Schedule(samples=30 * 16, batch_size=16, learning_rate=1e-2, warmup_steps=2, ema_decay=0.5)
    models = []
    for name in ("first", "second"):
        models.append(drawing_classifier.train(sun_and_sea, drawings, schedule, tmp_path / name))
        sun_and_sea.drawings.pixels[drawings.held_out_indices] = 17  # other held-out drawings for the second training
    assert drawing_classifier.ranks(models[0], held_out, drawings.held_out_labels).tolist() == [0, 0]
    assert drawing_classifier.ranks(models[0], held_out, 1 - drawings.held_out_labels).tolist() == [1, 1]
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_shares_of_recognised_images(training):
    """The ratio to real drawings has an interval on a logarithmic scale."""
    import drawing_classifier

    real, found = np.array([0] * 50 + [3] * 30 + [9] * 20), np.array([0] * 40 + [4] * 20 + [5] * 40)
    summary = drawing_classifier.summarize(found, real)
    assert (summary["num_images"], summary["top1"]["accuracy"], summary["top5"]["accuracy"]) == (100, 40.0, 60.0)
    assert summary["top1"]["percent_of_real"] == {"value": 80, "ci95": [59, 109]}
    assert summary["top5"]["percent_of_real"]["value"] == 75
    assert drawing_classifier.summarize(real)["top5"] == {"accuracy": 80.0, "ci95": [71.1, 86.7]}
    assert drawing_classifier.ratio(0, 10, 5, 10) is None


def test_generated_images_are_judged_by_the_names_of_their_prompts(sun_and_sea, monkeypatch, tmp_path):
    import drawing_classifier

    def judged(generate):
        monkeypatch.setattr(drawing_classifier, "generate", generate)
        monkeypatch.setattr(
            drawing_classifier, "train", lambda *_: lambda x: -x.mean((2, 3))[:, [2, 0]]
        )  # blue or red is missing
        process: Any = SimpleNamespace(guidance=10.0, pipeline=SimpleNamespace(vae=PIXELS_AS_LATENTS))
        return drawing_classifier.measure(process, sun_and_sea, 3, tmp_path)

    pixels = sun_and_sea.drawings.over_white(np.array([9, 2]))
    measured = judged(lambda process, prompts, guidance: np.stack([pixels[["sea", "sun"].index(prompt)] for prompt in prompts]))
    swapped = judged(lambda process, prompts, guidance: np.stack([pixels[["sun", "sea"].index(prompt)] for prompt in prompts]))
    assert measured["num_training_drawings"] == 10
    for entry in (*measured["generated_images"], measured["generated_images_of_held_out_names"]):
        assert (entry["num_images"], entry["top1"]["accuracy"]) == (2, measured["held_out_drawings"]["top1"]["accuracy"])
    assert {entry["top1"]["accuracy"] for entry in swapped["generated_images"]} == {
        100 - measured["held_out_drawings"]["top1"]["accuracy"]
    }
    assert [entry["guidance"] for entry in measured["generated_images"]] == [3.0, 5.0, 7.5, 10.0]
