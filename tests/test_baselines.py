"""Baselines: each gives what its formula says, on models saved in their real format, and all go through one protocol."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers as t
from conftest import SIMILARITY
from families import save
from gaussian import gaussian, process_of
from scipy import linalg, stats

import conjure
from conjure import InputError, pictures
from conjure.baselines import ALLOWED, Random, baselines, encoder, sentence, transformer
from conjure.benchmarks import read
from conjure.estimate import Noise
from conjure.likelihood import JensenShannon, ancestral_mean
from conjure.lockstep import Visit, follow
from conjure.pictures import METRICS, Drawings, Pictures, colours, seen_by
from conjure.similarity import sources_of
from conjure.trajectories import Trajectories
from conjure.units import output_of

PAIRS = [("a red apple", "a green apple"), ("a red apple", "the moon"), ("the moon", "the moon")]


def words_of(folder):
    """A tokenizer of BERT's kind whose words are characters."""
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return t.BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=64)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT on disk."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    config = t.BertConfig(vocab_size=57, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    words_of(folder).save_pretrained(folder)
    t.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A tiny GPT-2 on disk, whose tokenizer is of characters; its likelihoods differ from token to token."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    words = words_of(folder)
    words.eos_token = "[SEP]"
    words.save_pretrained(folder)
    model = t.GPT2LMHeadModel(t.GPT2Config(vocab_size=57, n_embd=32, n_layer=2, n_head=2, n_positions=128, eos_token_id=3))
    for parameter in model.parameters():
        parameter.data *= 8 if parameter.ndim > 1 else 1
    model.save_pretrained(folder)
    return folder


def cosine_distance(x, y):
    return 1 - float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


# texts as vectors


def test_own_encoder_is_that_of_sentence_transformers(default):
    """The default model's encoder is all-MiniLM-L6-v2, whose recipe is the mean of the states."""
    ours, theirs = (one.distances(PAIRS) for one in (encoder(default), sentence("minilm")))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert ours[2, 0] == pytest.approx(0, abs=1e-9)


def test_own_encoder_of_stable_diffusion(tiny_sd):
    """The pooled state of CLIP, as transformers gives it, at the pipeline's own length."""
    process = conjure.load(tiny_sd, steps=2)
    words, clip = process.pipeline.tokenizer, process.pipeline.text_encoder

    def vector(text):
        ids = words(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return clip(ids).pooler_output[0].detach().numpy()

    expected = [[cosine_distance(vector(a), vector(b))] for a, b in PAIRS]
    np.testing.assert_allclose(encoder(process).distances(PAIRS), expected, atol=1e-6)


def test_texts_that_the_encoder_takes_for_one(default):
    """Case and spaces make no difference to MiniLM; what it said of the one is what it says of the other."""
    pairs = [("puppy", "Puppy"), ("a  dog", "a dog"), ("the moon", "the sun"), ("The Moon", "the sun")]
    same, spaced, plain, capital = encoder(default).distances(pairs)[:, 0]
    assert (same, spaced) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert plain == pytest.approx(capital)
    assert plain > 0.1


def test_padding_does_not_count(tmp_path):
    """Flux asks T5 without a mask: only the tokens' states are in the mean."""
    process = conjure.load(save("Flux dev", tmp_path / "model"), steps=2)
    words, network = process.pipeline.tokenizer_2, process.pipeline.text_encoder_2

    def parts(text):
        ids = words(text, return_tensors="pt", padding="max_length", max_length=512, truncation=True).input_ids
        mean = network(ids)[0][0, ids[0] != words.pad_token_id].mean(0).detach()
        clip = process.pipeline.tokenizer(text, return_tensors="pt", padding="max_length", max_length=77).input_ids
        return [process.pipeline.text_encoder(clip).pooler_output[0].detach(), mean]

    vectors = {
        text: np.concatenate([(part / part.norm()).numpy() for part in parts(text)]) for text in ("the moon", "a red apple")
    }
    expected = cosine_distance(*vectors.values())
    assert encoder(process).distances([("the moon", "a red apple")])[0, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["SDXL", "Stable Diffusion 3", "Flux dev", "Sana", "Qwen-Image", "Kandinsky 3"])
def test_own_encoders_of_families(family, tmp_path):
    """One encoder or three, templates or none: every text has a vector, and no network denoises."""
    process = conjure.load(save(family, tmp_path / "model"), steps=2)
    denoiser = next(process.pipeline.components[name] for name in ("unet", "transformer") if name in process.pipeline.components)
    denoiser.forward = None
    found = encoder(process).distances(PAIRS)
    assert found.shape == (3, 1)
    assert found[0, 0] > 1e-6
    assert found[1, 0] > 1e-6
    assert found[2, 0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_transformers_encoders(bert, pooling):
    words, model = t.AutoTokenizer.from_pretrained(bert), t.AutoModel.from_pretrained(bert).eval()

    def vector(text):
        states = model(**words(text, return_tensors="pt")).last_hidden_state[0].detach().numpy()
        return states[0] if pooling == "cls" else states.mean(0)

    expected = [[cosine_distance(vector(a), vector(b))] for a, b in PAIRS]
    found = transformer(str(bert), pooling)
    np.testing.assert_allclose(found.distances(PAIRS), expected, atol=1e-6)
    assert found.name == f"{pooling}:{bert}"


def test_encoders_load_quietly(bert, capfd):
    transformer(str(bert), "mean")
    assert capfd.readouterr() == ("", "")


def test_encoder_of_an_encoder_decoder(tmp_path, bert):
    """Sentence-T5 and its like: the mean of the encoder's states."""
    torch.manual_seed(0)
    config = t.T5Config(vocab_size=57, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=2)
    t.T5Model(config).save_pretrained(tmp_path)
    t.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    found = transformer(str(tmp_path), "mean").distances(PAIRS)
    assert found[0, 0] > 1e-4
    assert found[2, 0] == pytest.approx(0, abs=1e-9)


def test_sentence_transformers_models(bert, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    body = Transformer(str(bert))
    SentenceTransformer(modules=[body, Pooling(32, pooling_mode="mean")]).save(str(tmp_path / "model"))
    ours = sentence(str(tmp_path / "model")).distances(PAIRS)
    np.testing.assert_allclose(ours, transformer(str(bert), "mean").distances(PAIRS), atol=1e-6)


def test_how_a_sentence_model_pools_is_part_of_it(bert, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    settings = []
    for pooling in ("mean", "cls"):
        SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32, pooling_mode=pooling)]).save(str(tmp_path / "model"))
        settings.append(sentence(str(tmp_path / "model")).settings())
    assert settings[0] != settings[1]
    assert settings[0]["weights"] == settings[1]["weights"]


@pytest.mark.skipif(not SIMILARITY.is_dir(), reason="human judgements are not at hand")
def test_minilm_gives_what_is_known_of_it():
    """82.0 on STS-B test (DESIGN.md)."""
    pairs = read("stsb", SIMILARITY)
    found = stats.spearmanr(-sentence("minilm").distances(pairs.texts)[:, 0], pairs.scores).statistic
    assert 100 * found == pytest.approx(82.0, abs=0.05)


def test_random_knows_nothing():
    pairs = [(f"text {i}", f"other {i}") for i in range(2000)]
    found = Random(0).distances(pairs)[:, 0]
    assert stats.kstest(found, "uniform").pvalue > 0.001
    np.testing.assert_array_equal(found, Random(0).distances([(b, a) for a, b in pairs])[:, 0])
    assert abs(stats.spearmanr(found, Random(1).distances(pairs)[:, 0]).statistic) < 0.1


# what a language model would say


def test_trajectories_by_an_independent_loop(gpt2):
    """One continuation at a time, without a cache, at likelihoods from transformers' own loss."""
    ours = Trajectories.load(str(gpt2), number=6, length=5, rows=4)
    words, model = t.AutoTokenizer.from_pretrained(gpt2), t.AutoModelForCausalLM.from_pretrained(gpt2).eval()

    def likelihood(text, tokens):
        prompt = words(text).input_ids
        ids = torch.tensor([prompt + tokens])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        return -float(model(ids, labels=labels).loss.detach())

    def drawn(text):
        said = ours._continued(text)
        return [[int(token) for token, real in zip(row, is_real, strict=True) if real]
                for row, is_real in zip(said.tokens, said.real, strict=True)]  # fmt: skip

    for pair, found in zip(PAIRS[:2], ours.distances(PAIRS[:2]), strict=True):
        every = [tokens for text in pair for tokens in drawn(text)]
        expected = np.mean([abs(likelihood(pair[0], tokens) - likelihood(pair[1], tokens)) for tokens in every])
        assert found[0] == pytest.approx(expected, rel=1e-4)
    assert ours.distances([("the moon", "the moon")])[0, 0] == pytest.approx(0, abs=1e-6)
    assert {len(tokens) for tokens in drawn("the moon")} <= set(range(1, 6))


def test_continuations_follow_the_model(gpt2):
    """The first tokens come as often as the model says, and those after a cached step as well; nothing counts after the end."""
    ours = Trajectories.load(str(gpt2), number=4000, length=2)
    said = ours._continued("moon")
    words, model = ours.tokenizer, ours.model
    prompt = torch.tensor([words("moon").input_ids])
    first = model(prompt).logits[0, -1].detach().softmax(-1).numpy()
    counts = np.bincount(said.tokens[:, 0], minlength=len(first))
    np.testing.assert_allclose(counts / 4000, first, atol=4 * 0.5 / 4000**0.5)
    most = int(counts.argmax())
    second = model(torch.cat([prompt, torch.tensor([[most]])], 1)).logits[0, -1].detach().softmax(-1).numpy()
    after = said.tokens[said.tokens[:, 0] == most, 1]
    np.testing.assert_allclose(np.bincount(after, minlength=len(second)) / len(after), second, atol=4 * 0.5 / len(after) ** 0.5)
    ended = said.tokens[:, 0] == words.eos_token_id
    assert not said.real[ended, 1].any()
    assert said.real[~ended, 1].all()


def test_draws_depend_on_text_and_seed_alone(gpt2):
    one, other = (Trajectories.load(str(gpt2), number=4, length=4, seed=seed) for seed in (0, 1))
    both = one.distances(PAIRS)
    np.testing.assert_allclose(Trajectories.load(str(gpt2), number=4, length=4).distances(PAIRS[::-1])[::-1], both, rtol=1e-5)
    assert not np.allclose(other.distances(PAIRS[:2]), both[:2])


def test_a_text_longer_than_the_model(gpt2):
    with pytest.raises(InputError, match="has 402 tokens, with a continuation 20 more; .* takes 128; leave out this baseline"):
        Trajectories.load(str(gpt2)).distances([("a " * 400, "moon")])


# sets of pictures


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(5, 5))
    return rng.normal(size=(40, 5)) @ shape, rng.normal(size=(40, 5)) + 0.5


def test_gaussian_is_the_closed_form(clouds):
    """KL of two Gaussians in both directions, with covariances drawn halfway to a ball."""

    def fitted(x):
        cov = np.cov(x.T)
        return stats.multivariate_normal(x.mean(0), 0.5 * cov + 0.5 * np.trace(cov) / 5 * np.eye(5))

    p, q = map(fitted, clouds)
    kl = [
        np.log(np.linalg.det(b.cov) / np.linalg.det(a.cov)) - 5 + np.trace(np.linalg.inv(b.cov) @ a.cov)
        + (b.mean - a.mean) @ np.linalg.inv(b.cov) @ (b.mean - a.mean)
        for a, b in ((p, q), (q, p))
    ]  # fmt: skip
    assert pictures.gaussian(*clouds) == pytest.approx(sum(kl) / 2 / 2)


def test_frechet_is_the_matrix_root(clouds):
    x, y = clouds
    sx, sy = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(sx @ sy).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * root)
    assert pictures.frechet(x, y) == pytest.approx(expected, rel=1e-6)


def test_energy_and_wasserstein_on_a_line():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 1)), rng.normal(size=(30, 1)) * 2 + 1
    others = [np.delete(np.arange(30), i) for i in range(30)]  # whatever i and j of different noise give
    expected = np.mean([2 * abs(x[i] - y[at]) - abs(x[i] - x[at]) - abs(y[i] - y[at]) for i, at in enumerate(others)])
    assert pictures.energy(x, y) == pytest.approx(expected)
    many = rng.normal(size=(2, 2000, 1))
    biased = stats.energy_distance(many[0, :, 0], many[1, :, 0] + 1) ** 2
    assert pictures.energy(many[0], many[1] + 1) == pytest.approx(biased, abs=0.01)
    expected = np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2)
    assert pictures.sliced_wasserstein(x, y) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_of_sets(metric):
    """Near 0 for two draws of one distribution, where they are unbiased, and the larger the farther apart."""
    rng = np.random.default_rng(2)
    measure = METRICS[metric]
    x = rng.normal(size=(64, 8))
    apart = [measure(x, rng.normal(size=(64, 8)) + shift) for shift in (0.0, 1.0, 3.0)]
    assert apart[0] < apart[1] / 2 < apart[2] / 4
    assert measure(x, x) == pytest.approx(0, abs=1e-9)
    if metric in ("mmd", "energy"):
        same = [measure(z, z + 0.01 * rng.normal(size=z.shape)) for z in rng.normal(size=(200, 12, 8))]  # nearly the same noise
        assert abs(np.mean(same)) < 4 * np.std(same) / 14 + 0.01
        null = [measure(*rng.normal(size=(2, 12, 8))) for _ in range(400)]
        assert abs(np.mean(null)) < 4 * np.std(null) / 20


def test_pictures_are_those_of_the_process(default):
    process = default.set(steps=2)
    found = Pictures("energy", Drawings(process, seen_by(None), number=3))
    assert found.distances([("sun", "sun")])[0, 0] == pytest.approx(0, abs=1e-9)
    found.distances([("sun", "moon"), ("moon", "star")])
    assert set(found.drawings.known) == {"sun", "moon", "star"}
    seeds = [conjure.estimate.noise_seed(0, sample) for sample in range(3)]
    np.testing.assert_allclose(found.drawings.known["moon"], colours(process.run(["moon"] * 3, seeds, "np")), atol=1e-5)


def test_all_metrics_look_at_the_same_pictures(default, monkeypatch):
    found = baselines(["energy", "mmd", "energy", "random"], default.set(steps=2), pictures=2)
    assert [one.name for one in found] == ["energy", "mmd", "random"]
    found[0].distances([("sun", "moon")])
    monkeypatch.setattr("conjure.process.Process.run", None)
    assert found[1].distances([("sun", "moon")]).shape == (1, 1)


def test_vision_models_see_pictures(tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **small)).save_pretrained(tmp_path / "vit")
    t.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    text = {"vocab_size": 57, "max_position_embeddings": 16, **small}
    clip = t.CLIPModel(
        t.CLIPConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **small}, projection_dim=16)
    )
    clip.save_pretrained(tmp_path / "clip")
    t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path / "clip")
    shown = np.random.default_rng(0).random((3, 40, 40, 3), dtype=np.float32)
    for kind, width in (("vit", 32), ("clip", 16)):
        seen = seen_by(str(tmp_path / kind)).of(shown)
        assert seen.shape == (3, width)
        assert np.ptp(seen, axis=0).max() > 1e-4


# path measures


def test_likelihood_ratios_of_known_processes():
    """Under P the mean of exp -L is 1, whatever the steps: the sign that these are the densities that the sampler draws from."""
    process = process_of({"p": gaussian(0.0), "q": gaussian(0.15)}, "ddim sample", steps=12)
    found = JensenShannon(process, samples=4000)
    ratios = found.ratios(sources_of([("p", "q")], range(4000), Noise(0)))
    for text, other in (("p", "q"), ("q", "p")):
        values = np.array([value for (driver, _, judge), value in ratios.items() if (driver, judge) == (text, other)])
        assert np.exp(-values).mean() == pytest.approx(1, abs=4 * np.exp(-values).std() / 4000**0.5)
        assert values.mean() > 4 * values.std() / 4000**0.5  # KL is positive
    distances = found.distances([("p", "q")])
    assert distances.shape == (1, 4000)
    assert 0 < distances.mean() < math.log(2)
    assert found.distances([("p", "p")]).max() == 0


def test_steps_are_drawn_as_the_density_says(tiny_sd):
    """What the sampler lands on, less the mean and over the width, is standard normal: with a network, at every step."""
    found = JensenShannon(conjure.load(tiny_sd, steps=6))
    visits: list[Visit] = []
    follow(found.process, ["the moon"] * 2, [0, 1], [3, 4], visits.append)
    for now, following in pairwise(visits):
        mean, width = ancestral_mean(output_of(found.process.scheduler), now, following.level)
        noise = (following.x_t - mean) / width
        assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
        assert float(noise.std()) == pytest.approx(1, abs=4 / (2 * noise.numel()) ** 0.5)


def test_it_saturates(default):
    """Which is why the measure is Jeffreys: texts that differ have likelihood ratios in the hundreds."""
    found = JensenShannon(default)
    assert found.distances([("puppy", "shark"), ("gem", "jewel")]).tolist() == [[math.log(2)]] * 2
    assert found.distances([("puppy", "puppy")]).tolist() == [[0.0]]


# names


def test_names_of_the_command_line(default, bert, gpt2):
    given = {"MODEL": str(bert)}
    for spec in ALLOWED:
        kind, _, model = spec.replace("[:MODEL]", "").partition(":")
        model = str(gpt2) if kind == "trajectories" else given.get(model, "")
        (found,) = baselines([f"{kind}:{model}" if model else kind], default.set(steps=2), pictures=2)
        assert found.name == (f"{kind}:{model}" if model else kind)
        assert found.settings()["name"] == found.name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "unknown baseline 'nope'; allowed are encoder, random, jensen-shannon, sentence:MODEL"),
        ("sentence", "unknown baseline 'sentence'; allowed"),
        ("encoder:x", "unknown baseline"),
        ("mean:/no/such/model", "'/no/such/model' cannot be loaded: .*; give a folder with safetensors"),
        ("sentence:/no/such/model", "cannot be loaded"),
        ("trajectories:/no/such/model", "cannot be loaded"),
        ("frechet:/no/such/model", "cannot be loaded"),
    ],
)
def test_names_that_are_none(default, spec, message):
    with pytest.raises(InputError, match=message):
        baselines([spec], default)


def test_what_they_cannot_be_used_with(default, bert):
    with pytest.raises(InputError, match="1 pictures a text; allowed are whole numbers from 2 on"):
        baselines(["mmd"], default, pictures=1)
    with pytest.raises(InputError, match="flows have none of; leave it out"):
        JensenShannon(process_of({"p": gaussian(0.0)}, "flow"))
    with pytest.raises(InputError, match="steps must be at least 2"):
        JensenShannon(default.set(steps=1))
    with pytest.raises(InputError, match="has no text encoder"):
        encoder(process_of({"p": gaussian(0.0), "": gaussian(0.0)})).distances([("p", "p")])


def test_other_weights_are_another_baseline(bert, tmp_path):
    """What is kept is kept by what a model is, not by what it is called."""
    model = t.AutoModel.from_pretrained(bert)
    one = transformer(str(bert), "mean").settings()["weights"]
    model.encoder.layer[0].output.dense.weight.data[0, 0] += 1
    model.save_pretrained(tmp_path)
    t.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    assert transformer(str(tmp_path), "mean").settings()["weights"] != one
    assert transformer(str(bert), "mean").settings()["weights"] == one
