"""Tests of the training recipe: excluded captions, the training data, the loss functions, and the order of the stages."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

TRAINING_FOLDER = Path(__file__).parent.parent / "training"


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
    from recipe import Recipe

    torch.manual_seed(0)
    projection = denoiser.build().caption_projection
    vectors = torch.randn(64, 384)
    distances, projected_distances = torch.pdist(vectors), torch.pdist(projection(vectors))
    ratio = projected_distances / distances
    assert torch.corrcoef(torch.stack([distances, projected_distances]))[0, 1] > 0.85
    assert ratio.std() / ratio.mean() < 0.03
    assert not any(parameter.requires_grad for parameter in projection.parameters())
    trainable = denoiser.build(Recipe(trainable_projection=True)).caption_projection
    assert all(parameter.requires_grad for parameter in trainable.parameters())


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
    import nearest_concepts

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
    nearest = nearest_concepts.NearestConcepts(captions, wordnet, drawings)
    rng = np.random.default_rng(0)
    samples = [nearest.sample(rng) for _ in range(400)]
    names = {
        text: [labels[drawing] for drawing, caption in samples if captions.texts[caption] == text]
        for text in ("to bark", "a ride")
    }
    assert len(samples) == sum(map(len, names.values()))
    assert set(names["to bark"]) == {"dog", "cat"}
    assert names["to bark"].count("dog") > names["to bark"].count("cat") > 0
    assert set(names["a ride"]) == {"car"}
    assert {drawing for drawing, _ in samples} == {0, 1, 2, 4}


class BrightnessDenoiser:
    """A denoiser that assumes a constant image for each text: its brightness is the first component of the text's vector."""

    def __call__(self, x_t, encoder_hidden_states, timestep):
        import denoiser

        x0 = encoder_hidden_states[:, 0, 0][:, None, None, None].expand_as(x_t)
        alpha_bar = denoiser.make_scheduler().alphas_cumprod[timestep][:, None, None, None]
        eps = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return SimpleNamespace(sample=alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0)


@pytest.mark.parametrize(
    ("brightness", "captions", "captions_of_image", "expected"),
    [
        ((1, -1), [1, 2], [[1], [2]], 0.0),  # both images are classified correctly
        ((1, -1), [2, 1], [[2], [1]], None),  # both images are classified wrongly
        ((1, 1), [1, 3], [[1], [3]], math.log(2)),  # the captions have equal predictions
        ((1, 1), [1, 3], [[1, 3], [1, 3]], 0.0),  # as above, but both captions describe both images
        ((1, -1), [1, 0], [[1], [2]], 0.0),  # the empty caption is neither classified nor a negative
    ],
)
def test_contrastive_loss(training, monkeypatch, brightness, captions, captions_of_image, expected):
    """The cross-entropy compares the error under an image's caption with errors under captions that do not describe it."""
    import torch

    import denoiser_losses

    monkeypatch.setattr(denoiser_losses, "NUM_NEGATIVES", 1)
    vectors = torch.tensor([[0.0], [1.0], [-1.0], [1.0]])
    latents = torch.tensor(brightness)[:, None, None, None].expand(-1, 16, 8, 8)
    losses = denoiser_losses.DenoiserLosses(cast(Any, BrightnessDenoiser()), latents, vectors, captions_of_image)

    def sampler(rng, batch_size):
        return np.arange(batch_size), captions

    noise_rng = torch.Generator().manual_seed(0)
    errors = losses.squared_errors(np.arange(2), torch.tensor(captions)[:, None], noise_rng)
    loss = losses.contrastive(cast(Any, sampler), 2)(np.random.default_rng(0), torch.Generator().manual_seed(0))
    cross_entropy = (loss - errors.mean()) / denoiser_losses.CONTRASTIVE_WEIGHT
    if expected is None:
        assert cross_entropy > 1
    else:
        assert cross_entropy == pytest.approx(expected, abs=1e-3)


class LinearDenoiser:
    """A denoiser whose prediction contains the first components of the text's vector, each multiplied by a weight."""

    def __init__(self, *weights: float) -> None:
        import torch

        self.weights = torch.tensor(weights, requires_grad=True)

    def __call__(self, x_t, encoder_hidden_states, timestep):
        import torch

        weighted = encoder_hidden_states[:, 0] * self.weights
        weighted = torch.nn.functional.pad(weighted, (0, x_t[0].numel() - weighted.shape[1]))
        return SimpleNamespace(sample=x_t + timestep[:, None, None, None] + weighted.view(x_t.shape))


@pytest.mark.parametrize(("weights", "has_drift"), [((1, 1, 1), False), ((3, 3, 3), False), ((1, 1, 3), True), ((1, 0, 1), True)])
def test_recovery_loss_penalises_changes_of_relative_distances(training, monkeypatch, weights, has_drift):
    """A common factor of all distances between texts is free; other changes are penalised, and the teacher has no gradient."""
    import torch

    from denoiser_losses import DenoiserLosses

    monkeypatch.setattr(DenoiserLosses, "contrastive", lambda *_: lambda batch_rng, noise_rng: torch.tensor(0.25))
    vectors = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    model, teacher = LinearDenoiser(*map(float, weights)), LinearDenoiser(1.0, 1.0, 1.0)
    losses = DenoiserLosses(cast(Any, model), torch.zeros(4, 16, 8, 8), vectors, [])

    def sampler(rng, batch_size):
        return np.arange(batch_size), [0] * batch_size

    recovery = losses.recovery(cast(Any, sampler), 8, cast(Any, teacher), np.arange(1, 2000))
    loss = recovery(np.random.default_rng(0), torch.Generator().manual_seed(0))
    loss.backward()
    assert teacher.weights.grad is None
    assert model.weights.grad is not None
    if has_drift:
        assert loss > 0.27
        assert model.weights.grad.abs().max() > 1e-3
    else:
        assert loss.item() == pytest.approx(0.25, abs=1e-4)


def test_trained_names_have_training_drawings(training):
    """A held-out drawing counts as one of a trained name only if there is a training drawing of the same name."""
    import zero_shot_classification

    concepts = [SimpleNamespace(label=name) for name in ("dog", "dog", "seo eye network", "cat")]
    drawings = SimpleNamespace(concepts=concepts, train_indices=np.array([1, 3]), held_out_indices=np.array([0, 2]))
    images: Any = SimpleNamespace(drawings=drawings)
    assert zero_shot_classification.held_out_with_trained_names(images).tolist() == [0]


def test_contrastive_and_recovery_stages(training, monkeypatch, tmp_path):
    """The contrastive stage trains all weights. The recovery stage restores the cross-attention of the first layers and trains
    the other weights. The weights before and after it are interpolated, and the spectrum is flattened last."""
    import torch

    import denoiser
    import denoiser_stages
    import trainer
    from recipe import Recipe

    vectors = {f"thing {i}": tuple(torch.randn(384, generator=torch.Generator().manual_seed(i)).tolist()) for i in range(8)}
    nearest = SimpleNamespace(sample=lambda rng: (0, 1), text_indices=np.arange(1, 9))
    monkeypatch.setattr(denoiser_stages, "CaptionEmbeddings", lambda texts, cache: FakeCaptionEmbeddings(vectors))
    monkeypatch.setattr(denoiser_stages, "CaptionFilter", lambda drawings: lambda caption: True)
    monkeypatch.setattr(denoiser_stages, "WordNet", lambda cache: None)
    monkeypatch.setattr(denoiser_stages, "NearestConcepts", lambda *_: nearest)
    monkeypatch.setattr(denoiser_stages, "wordnet_texts", lambda wordnet: [])
    copied: list[int] = []

    def random_copy(index, rng):
        copied.append(index)
        return index

    indices = (np.arange(6), np.arange(6, 8))
    images: Any = SimpleNamespace(drawings=None, train_indices=indices, held_out_indices=indices, random_copy=random_copy)
    schedule = trainer.Schedule(samples=24, batch_size=8, learning_rate=1e-2, warmup_steps=1, ema_decay=0.5)
    small = Recipe(contrastive=(schedule, schedule), recovery=schedule, spectrum_power=None, heads=1, layers=4)
    start = denoiser.build(small)
    torch.nn.init.normal_(start.proj_out.weight)  # with zeros, the other layers would have no gradient
    before = {name: value.clone() for name, value in start.state_dict().items()}
    captions = [[text] for text in vectors]
    latents, runs_folder = torch.randn(8, 16, 8, 8), tmp_path / "runs"

    def train(recipe, interpolation):
        """Run the stages. After the first call, they are read from their checkpoints."""
        start.load_state_dict(before)
        recipe = replace(recipe, interpolation=interpolation)
        trained = denoiser_stages.train(images, latents, captions, tmp_path, runs_folder, recipe, start).state_dict()
        return {name: value.clone() for name, value in trained.items()}

    interpolated, recovered = train(small, 0.25), train(small, 1)
    without_recovery = train(replace(small, recovery=None), 0.25)

    def is_restored(name):
        return torch.equal(recovered[f"transformer_blocks.{name}.weight"], before[f"transformer_blocks.{name}.weight"])

    assert [is_restored(f"{layer}.attn2.to_v") for layer in range(4)] == [True, True, True, False]
    assert not any(is_restored(f"{layer}.attn1.to_v") for layer in range(4))
    stages = sorted(path.parent.name for path in runs_folder.glob("*/losses.csv"))
    assert stages == ["contrastive-1", "contrastive-2", "recovery"]
    for name, weights in interpolated.items():
        torch.testing.assert_close(weights, without_recovery[name].lerp(recovered[name], 0.25))
    assert not torch.allclose(without_recovery["proj_out.weight"], recovered["proj_out.weight"])
    start.load_state_dict(interpolated)
    denoiser.flatten_spectrum(start, FakeCaptionEmbeddings(vectors).vectors, 0.5)
    flattened = {name: value.clone() for name, value in start.state_dict().items()}
    for name, weights in train(replace(small, spectrum_power=0.5), 0.25).items():
        torch.testing.assert_close(weights, flattened[name])
    assert len(copied) == 2 * 24


@pytest.mark.parametrize("power", [1, 0.5, 0])
def test_flattened_spectrum(training, power):
    """Singular values are raised to a power, the Frobenius norm is kept, and the output for the mean text does not change."""
    import torch

    import denoiser
    from recipe import Recipe

    torch.manual_seed(0)
    model = denoiser.build(Recipe(heads=1, layers=2))
    for weights in model.parameters():
        if weights.ndim == 1:
            torch.nn.init.normal_(weights)  # biases are zero after initialisation
    vectors = torch.randn(100, 384) + torch.linspace(-1, 1, 384)
    texts = torch.cat([vectors, vectors.mean(0, keepdim=True)])
    projected = model.caption_projection(texts).detach()

    @torch.no_grad()
    def cross_attention():
        """Return the outputs for all texts, and the product of both matrices, of each layer."""
        layers = [(block.attn2.to_v, block.attn2.to_out[0]) for block in model.transformer_blocks]
        return [(out(value(projected)), out.weight @ value.weight) for value, out in layers]

    before = cross_attention()
    denoiser.flatten_spectrum(model, vectors, power)
    for (old_outputs, old_matrix), (outputs, matrix) in zip(before, cross_attention(), strict=True):
        u, s, vt = torch.linalg.svd(old_matrix)
        expected = u * s**power @ vt
        expected *= old_matrix.norm() / expected.norm()
        torch.testing.assert_close(matrix, expected, rtol=1e-3, atol=1e-3)
        expected_outputs = old_outputs[-1] + (projected - projected[-1]) @ expected.T
        torch.testing.assert_close(outputs, expected_outputs, rtol=1e-3, atol=1e-3)
        if power == 1:
            torch.testing.assert_close(outputs, old_outputs, rtol=1e-3, atol=1e-3)


def test_a_run_resumes_only_from_its_own_checkpoint(training, tmp_path):
    import torch

    import trainer

    schedule = trainer.Schedule(samples=8, batch_size=2, learning_rate=1e-2, warmup_steps=1)

    def fit(initial_weight):
        model = torch.nn.Linear(3, 1)
        torch.nn.init.constant_(model.weight, initial_weight)
        torch.nn.init.zeros_(model.bias)

        def loss(batch_rng, noise_rng):
            return model(torch.randn(4, 3, generator=noise_rng)).square().mean()

        trainer.fit(model, schedule, loss, loss, tmp_path)
        return model.weight.detach()

    first = fit(1.0)
    assert not torch.equal(first, torch.ones(1, 3))
    torch.testing.assert_close(fit(1.0), first)
    with pytest.raises(SystemExit, match="started from other weights"):
        fit(2.0)


def test_augmented_copies(training, monkeypatch):
    """A copy has the captions of its drawing and a different position, and is mirrored only if the name allows it."""
    import augmentation
    import pictographs

    pixels = np.zeros((2, 64, 64, 4), np.uint8)
    pixels[:, 24:40, 10:22, 3] = 255  # a black rectangle of 192 pixels, left of the middle
    concepts: Any = [SimpleNamespace(label=name) for name in ("box", "left arrow")]
    drawings = pictographs.Pictographs(pixels, concepts, [["a box"], ["an arrow"]])
    images = augmentation.TrainingImages(drawings, 64, num_scenes=10)
    first_copy = images.num_originals
    rng = np.random.default_rng(0)
    assert len(images) == 2 * (1 + augmentation.NUM_COPIES) + 10
    assert {images.random_copy(1, rng) for _ in range(200)} == {1, *range(first_copy + augmentation.NUM_COPIES, len(images))}
    assert images.random_copy(7, rng) == 7  # a scene has no copies
    assert not set(np.concatenate(images.train_indices)) & set(range(first_copy, len(images)))

    def mean_column(index):
        """Return the mean column of the dark pixels of a copy."""
        copy, captions = images[index]
        assert captions == images[(index - first_copy) // augmentation.NUM_COPIES][1]
        assert copy.shape == (64, 64, 3)
        assert copy[0, 0].tolist() == [255, 255, 255]
        np.testing.assert_array_equal(copy, images[index][0])
        dark = np.argwhere(copy[..., 0] < 128)
        assert 60 < len(dark) < 400
        return dark[:, 1].mean()

    monkeypatch.setattr(augmentation, "NUM_COPIES", 20)
    columns = [mean_column(first_copy + i) for i in range(40)]
    assert any(column > 32 for column in columns[:20])
    assert any(column < 32 for column in columns[:20])
    assert all(column < 32 for column in columns[20:])
    assert len({round(column, 3) for column in columns}) > 30
