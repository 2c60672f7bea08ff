"""Distances between sets of generated images: each metric is compared with its formula or its statistical properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as t
from scipy import linalg, stats

import conjure
from conjure import InputError
from conjure.baselines import image_sets
from conjure.baselines.image_sets import (
    METRICS,
    GeneratedImageFeatures,
    ImageSetDistance,
    load_feature_extractor,
    mean_colours,
)
from conjure.baselines.registry import make_baselines
from conjure.diffusion.seeding import NoiseSeeds, noise_seed
from conjure.similarity.sampling import jobs_for_pairs
from safe_pipelines import overflow_in_bfloat16, set_safety_checker
from tiny_pipelines import FAMILIES

# metrics


@pytest.fixture(scope="module")
def two_sets():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    return rng.normal(size=(40, 5)) @ mixing, rng.normal(size=(40, 5)) + 0.5


def test_gaussian_equals_the_closed_form(two_sets):
    """It is the mean of both directions of KL between Gaussians whose covariances are shrunk halfway to a multiple of I."""

    def fit(x):
        cov = np.cov(x.T)
        return stats.multivariate_normal(x.mean(0), 0.5 * cov + 0.5 * np.trace(cov) / 5 * np.eye(5))

    p, q = map(fit, two_sets)
    kl = [
        np.log(np.linalg.det(b.cov) / np.linalg.det(a.cov)) - 5 + np.trace(np.linalg.inv(b.cov) @ a.cov)
        + (b.mean - a.mean) @ np.linalg.inv(b.cov) @ (b.mean - a.mean)
        for a, b in ((p, q), (q, p))
    ]  # fmt: skip
    assert image_sets.gaussian(*two_sets) == pytest.approx(sum(kl) / 2 / 2)


def test_frechet_equals_the_matrix_root(two_sets):
    x, y = two_sets
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)
    assert image_sets.frechet(x, y) == pytest.approx(expected, rel=1e-6)


def test_energy_and_sliced_wasserstein_in_one_dimension():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 1)), rng.normal(size=(30, 1)) * 2 + 1
    other_indices = [np.delete(np.arange(30), i) for i in range(30)]  # pairs of images with different noise
    expected = np.mean([2 * abs(x[i] - y[j]) - abs(x[i] - x[j]) - abs(y[i] - y[j]) for i, j in enumerate(other_indices)])
    assert image_sets.energy(x, y) == pytest.approx(expected)
    large = rng.normal(size=(2, 2000, 1))
    biased = stats.energy_distance(large[0, :, 0], large[1, :, 0] + 1) ** 2
    assert image_sets.energy(large[0], large[1] + 1) == pytest.approx(biased, abs=0.01)
    expected = np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2)
    assert image_sets.sliced_wasserstein(x, y) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_grow_with_the_shift(name):
    """Two samples of one distribution have the smallest distance; unbiased metrics have a mean of 0 for them."""
    rng = np.random.default_rng(2)
    metric = METRICS[name]
    x = rng.normal(size=(64, 8))
    by_shift = [metric(x, rng.normal(size=(64, 8)) + shift) for shift in (0.0, 1.0, 3.0)]
    assert by_shift[0] < by_shift[1] / 2 < by_shift[2] / 4
    assert metric(x, x) == pytest.approx(0, abs=1e-9)
    if name in ("mmd", "energy"):
        correlated = [metric(z, z + 0.01 * rng.normal(size=z.shape)) for z in rng.normal(size=(200, 12, 8))]
        assert abs(np.mean(correlated)) < 4 * np.std(correlated) / 14 + 0.01
        independent = [metric(*rng.normal(size=(2, 12, 8))) for _ in range(400)]
        assert abs(np.mean(independent)) < 4 * np.std(independent) / 20


# images and features


def test_features_are_those_of_the_images_of_the_process(default_process):
    process = default_process.set(steps=2)
    baseline = ImageSetDistance("energy", GeneratedImageFeatures(process, load_feature_extractor(None), images_per_text=3))
    assert baseline.distances([("sun", "sun")])[0, 0] == pytest.approx(0, abs=1e-9)
    baseline.distances([("sun", "moon"), ("moon", "star")])
    features = baseline.generated.cache
    assert set(features) == {"sun", "moon", "star"}
    images = process.run(["moon"] * 3, [noise_seed(0, sample) for sample in range(3)], "np")
    np.testing.assert_allclose(features["moon"], mean_colours(images), atol=1e-5)


def test_all_metrics_share_the_same_images(default_process, monkeypatch):
    energy, mmd, random = make_baselines(["energy", "mmd", "energy", "random"], default_process.set(steps=2), images=2)
    assert [energy.name, mmd.name, random.name] == ["energy", "mmd", "random"]
    energy.distances([("sun", "moon")])
    monkeypatch.setattr("conjure.diffusion.process.Process.run", None)
    assert mmd.distances([("sun", "moon")]).shape == (1, 1)


def test_features_of_vision_models(tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **small)).save_pretrained(tmp_path / "vit")
    t.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    text = {"vocab_size": 57, "max_position_embeddings": 16, **small}
    vision = {"image_size": 32, "patch_size": 8, **small}
    t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(tmp_path / "clip")
    t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path / "clip")
    images = np.random.default_rng(0).random((3, 40, 40, 3), dtype=np.float32)
    for model, num_features in (("vit", 32), ("clip", 16)):
        extractor = load_feature_extractor(str(tmp_path / model))
        features = extractor.extract(images)
        assert features.shape == (3, num_features)
        assert np.ptp(features, axis=0).max() > 1e-4
        assert extractor.metadata.keys() == {"weights", "prepare"}  # as in existing stores


def test_keys_of_settings_are_those_of_existing_stores(default_process):
    baseline = ImageSetDistance("mmd", GeneratedImageFeatures(default_process, load_feature_extractor(None), 4, seed=5))
    expected = {"name": "mmd", "process": default_process.fingerprint(), "number": 4, "seed": 5, "side": 8}
    assert baseline.settings() == expected


def test_a_single_image_is_refused(default_process):
    with pytest.raises(InputError, match="images is 1; the number of images per text must be an integer >= 2"):
        make_baselines(["mmd"], default_process, images=1)


def change_weights(pipeline):
    """Change the weights of the text encoder."""
    with torch.no_grad():
        for parameter in pipeline.text_encoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tiny_process():
    family = FAMILIES["Stable Diffusion 1.x"]
    return conjure.load(family.build(), steps=2, **family.settings)


@pytest.mark.parametrize("name", ["mmd", "encoder", "jensen-shannon"])
def test_results_of_a_changed_process_are_not_reused(tiny_process, name):
    """A baseline keeps features and embeddings of texts, which belong to the weights at the time of the call."""
    pairs = [("sun", "moon")]

    def results(baseline):
        if name == "jensen-shannon":  # its distances are saturated
            return list(baseline.log_likelihood_ratios(jobs_for_pairs(pairs, range(1), NoiseSeeds(0))).values())
        return baseline.distances(pairs)

    (baseline,) = make_baselines([name], tiny_process, images=2)
    before, settings = results(baseline), baseline.settings()
    change_weights(tiny_process.pipeline)
    (new,) = make_baselines([name], tiny_process, images=2)
    np.testing.assert_array_equal(results(baseline), results(new))
    assert baseline.settings() == new.settings() != settings
    assert not np.array_equal(results(baseline), before)


def features_of(process):
    return GeneratedImageFeatures(process, load_feature_extractor(None), images_per_text=2).features(["sun"])["sun"]


def test_images_are_neither_filtered_nor_overflow(tiny_process):
    """The safety checker is switched off, and an autoencoder that overflows decodes again in float32."""
    expected = features_of(tiny_process)
    set_safety_checker(tiny_process.pipeline)
    with pytest.warns(conjure.errors.SafetyCheckerWarning):
        np.testing.assert_array_equal(features_of(tiny_process), expected)
    overflow_in_bfloat16(tiny_process.pipeline.vae)
    np.testing.assert_allclose(features_of(tiny_process), expected, atol=0.05)


def test_images_that_are_not_finite_are_refused(tiny_process):
    tiny_process.pipeline.vae.decode = lambda latents, *_, **__: (torch.full((len(latents), 3, 64, 64), torch.nan),)
    with pytest.raises(InputError, match="not finite, also in float32"):
        features_of(tiny_process)


def test_pixels_that_are_not_finite_are_refused():
    """A pipeline without an autoencoder has no latents that could be decoded again."""
    family = FAMILIES["DeepFloyd IF"]
    process = conjure.load(family.build(), steps=2, **family.settings)
    with torch.no_grad():
        process.pipeline.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="images of the model are not finite"):
        features_of(process)
    with pytest.raises(InputError, match="images of the model are not finite"):
        process.decode(torch.full((1, 3, 64, 64), torch.nan))


def test_videos_and_sounds_are_refused(tiny_video, tiny_sound):
    """Only sets of images are compared; the baselines of texts do not generate."""
    for process, kind in ((tiny_video, "videos"), (tiny_sound, "audio")):
        with pytest.raises(InputError, match=f"generates {kind}, and baselines of sets of images .* need a model of images"):
            make_baselines(["frechet"], process)
    (encoder,) = make_baselines(["encoder"], tiny_video)
    assert encoder.distances([("a cat", "a dog")]).item() > 0
