"""Cosine distances of text embeddings are compared with the formulas, on models saved in the format of the real ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from scipy import stats

import conjure
from analytic_pipelines import gaussian, process_of
from conjure import InputError
from conjure.baselines.embeddings import process_text_encoder, sentence_transformer, transformers_encoder
from conjure.baselines.huggingface import pool
from tiny_language_models import save_bert
from tiny_media_pipelines import AUDIO_FAMILIES
from tiny_pipelines import save

PAIRS = [("a red apple", "a green apple"), ("a red apple", "the moon"), ("the moon", "the moon")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


def cosine_distance(x, y):
    return 1 - float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


# the text encoders of a process


def test_text_encoder_of_the_default_model_equals_sentence_transformers(default_process):
    """The text encoder of the default model is all-MiniLM-L6-v2, which averages the hidden states."""
    distances = process_text_encoder(default_process).distances(PAIRS)
    np.testing.assert_allclose(distances, sentence_transformer("minilm").distances(PAIRS), atol=1e-6)
    assert distances[2, 0] == pytest.approx(0, abs=1e-9)


def test_text_encoder_of_stable_diffusion(tiny_sd):
    """The vector is the pooled output of CLIP with the maximum length of the pipeline."""
    process = conjure.load(tiny_sd, steps=2)
    tokenizer, clip = process.pipeline.tokenizer, process.pipeline.text_encoder

    def vector(text):
        token_ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return clip(token_ids).pooler_output[0].detach().numpy()

    expected = [[cosine_distance(vector(a), vector(b))] for a, b in PAIRS]
    np.testing.assert_allclose(process_text_encoder(process).distances(PAIRS), expected, atol=1e-6)


def test_texts_with_the_same_tokens_have_the_same_vector(default_process):
    """MiniLM ignores case and repeated spaces, so the cached embedding of one spelling is used for the other."""
    pairs = [("puppy", "Puppy"), ("a  dog", "a dog"), ("the moon", "the sun"), ("The Moon", "the sun")]
    case, spaces, lower, capital = process_text_encoder(default_process).distances(pairs)[:, 0]
    assert (case, spaces) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert lower == pytest.approx(capital)
    assert lower > 0.1


def test_a_text_that_is_the_negative_prompt_has_its_own_vector(tiny_sd):
    plain, with_negative = (
        process_text_encoder(conjure.load(tiny_sd, guidance=guidance, negative_prompt=negative))
        for guidance, negative in ((1.0, None), (7.5, "blurry"))
    )
    pairs = [("blurry", "sharp"), ("", "sharp"), ("blurry", "")]
    np.testing.assert_allclose(with_negative.distances(pairs), plain.distances(pairs), rtol=1e-5, atol=1e-6)
    assert (plain.distances(pairs) > 1e-3).all()


def test_padding_is_not_part_of_the_mean(tmp_path):
    """Flux calls T5 without an attention mask; the mean is over the hidden states of the tokens only."""
    process = conjure.load(save("Flux dev", tmp_path / "model"), steps=2)
    tokenizer, t5 = process.pipeline.tokenizer_2, process.pipeline.text_encoder_2

    def vector(text):
        token_ids = tokenizer(text, return_tensors="pt", padding="max_length", max_length=512, truncation=True).input_ids
        mean = t5(token_ids)[0][0, token_ids[0] != tokenizer.pad_token_id].mean(0).detach()
        clip_ids = process.pipeline.tokenizer(text, return_tensors="pt", padding="max_length", max_length=77).input_ids
        pooled = process.pipeline.text_encoder(clip_ids).pooler_output[0].detach()
        return np.concatenate([(part / part.norm()).numpy() for part in (pooled, mean)])

    expected = cosine_distance(vector("the moon"), vector("a red apple"))
    distances = process_text_encoder(process).distances([("the moon", "a red apple")])
    assert distances[0, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["SDXL", "Stable Diffusion 3", "Flux dev", "Sana", "Qwen-Image", "Kandinsky 3"])
def test_text_encoders_of_families(family, tmp_path):
    """With one to three encoders and with or without a template, every text has a vector, and the denoiser is not called."""
    process = conjure.load(save(family, tmp_path / "model"), steps=2)
    denoiser = next(process.pipeline.components[name] for name in ("unet", "transformer") if name in process.pipeline.components)
    denoiser.forward = None
    distances = process_text_encoder(process).distances(PAIRS)
    assert distances.shape == (3, 1)
    assert distances[0, 0] > 1e-6
    assert distances[1, 0] > 1e-6
    assert distances[2, 0] == pytest.approx(0, abs=1e-6)


def test_language_models_are_pooled_over_hidden_states():
    """The output of a language model begins with the logits of its vocabulary."""
    states = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    output = t.modeling_outputs.CausalLMOutputWithPast(logits=torch.zeros(1, 3, 50), hidden_states=(0 * states, states))
    torch.testing.assert_close(pool(output, None), states.mean(1))


def test_text_encoder_of_qwen_image(tmp_path):
    """Its template and tokens are those of the pipeline; its vector is the mean of the last hidden states, not of logits."""
    process = conjure.load(save("Qwen-Image", tmp_path / "model"), steps=2)
    baseline, encoder = process_text_encoder(process), process.pipeline.text_encoder
    vectors, forward = [], type(encoder).forward

    def recording(*args, **kwargs):
        output = forward(encoder, *args, **kwargs)
        mask = kwargs["attention_mask"][..., None]
        vectors.append(((output.hidden_states[-1] * mask).sum(1) / mask.sum(1))[0].detach().numpy())
        return output

    encoder.forward = recording
    for text in PAIRS[0]:
        process.run([text], [0])
    first, second = vectors[0], vectors[len(vectors) // 2]
    del encoder.forward
    assert baseline.distances(PAIRS[:1])[0, 0] == pytest.approx(cosine_distance(first, second), abs=1e-5)


@pytest.mark.parametrize(
    ("family", "encoders"), [("Stable Audio", {"text_encoder"}), ("AudioLDM 2", {"text_encoder", "text_encoder_2"})]
)
def test_projections_are_no_text_encoders(family, encoders, tmp_path):
    """A projection only transforms what the encoders return. CLAP, the first one of AudioLDM 2, is called by another method."""
    process = conjure.load(AUDIO_FAMILIES[family].save(tmp_path / "model"), steps=2)
    baseline: Any = process_text_encoder(process)
    with baseline.recorder._patched_pipeline() as pipeline:
        assert {encoded.encoder for encoded in baseline.recorder._record(pipeline, "a dog barks")} == encoders
    assert baseline.distances(PAIRS)[0, 0] > 1e-6


def test_pipeline_without_text_encoder_is_refused():
    with pytest.raises(InputError, match="has no text encoder"):
        process_text_encoder(process_of({"p": gaussian(0.0), "": gaussian(0.0)})).distances([("p", "p")])


# transformers and sentence-transformers


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_transformers_encoders(bert, pooling):
    tokenizer, model = t.AutoTokenizer.from_pretrained(bert), t.AutoModel.from_pretrained(bert).eval()

    def vector(text):
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].detach().numpy()
        return states[0] if pooling == "cls" else states.mean(0)

    expected = [[cosine_distance(vector(a), vector(b))] for a, b in PAIRS]
    baseline = transformers_encoder(str(bert), pooling)
    np.testing.assert_allclose(baseline.distances(PAIRS), expected, atol=1e-6)
    assert baseline.name == f"{pooling}:{bert}"


def test_loading_prints_nothing(bert, capfd):
    transformers_encoder(str(bert), "mean")
    assert capfd.readouterr() == ("", "")


def test_encoder_of_an_encoder_decoder_model(tmp_path, bert):
    """For models such as Sentence-T5 the mean is over the hidden states of the encoder."""
    torch.manual_seed(0)
    config = t.T5Config(vocab_size=57, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=2)
    t.T5Model(config).save_pretrained(tmp_path)
    t.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    distances = transformers_encoder(str(tmp_path), "mean").distances(PAIRS)
    assert distances[0, 0] > 1e-4
    assert distances[2, 0] == pytest.approx(0, abs=1e-9)


def save_sentence_transformer(bert, pooling, folder):
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions have another name for the module
        from sentence_transformers.models import Pooling, Transformer

    SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32, pooling_mode=pooling)]).save(str(folder))
    return str(folder)


def test_sentence_transformers_models(bert, tmp_path):
    model = save_sentence_transformer(bert, "mean", tmp_path / "model")
    expected = transformers_encoder(str(bert), "mean").distances(PAIRS)
    np.testing.assert_allclose(sentence_transformer(model).distances(PAIRS), expected, atol=1e-6)


def test_settings_contain_the_pooling_of_a_sentence_model(bert, tmp_path):
    mean, cls = (
        sentence_transformer(save_sentence_transformer(bert, pooling, tmp_path / "model")).settings()
        for pooling in ("mean", "cls")
    )
    assert mean["settings"] != cls["settings"]


@pytest.mark.slow
def test_minilm_has_the_published_correlation(human_ratings):
    """82.0 on STS-B test (DESIGN.md)."""
    rows = [row for row in human_ratings("stsb.tsv") if row["split"] == "test"]
    scores = [float(row["score"]) for row in rows]
    distances = sentence_transformer("minilm").distances([(row["sentence1"], row["sentence2"]) for row in rows])[:, 0]
    assert len(rows) == 1379
    assert 100 * stats.spearmanr(-distances, scores).statistic == pytest.approx(82.0, abs=0.05)


# settings


def test_other_weights_have_another_fingerprint(bert, tmp_path):
    """Stored distances are identified by the weights of a model, not by its name."""
    model = t.AutoModel.from_pretrained(bert)
    weights = transformers_encoder(str(bert), "mean").settings()["weights"]
    model.encoder.layer[0].output.dense.weight.data[0, 0] += 1
    model.save_pretrained(tmp_path)
    t.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    assert transformers_encoder(str(tmp_path), "mean").settings()["weights"] != weights
    assert transformers_encoder(str(bert), "mean").settings()["weights"] == weights


def test_keys_of_settings_are_those_of_existing_stores(default_process, bert):
    assert process_text_encoder(default_process).settings().keys() == {"name", "weights", "call"}
    assert transformers_encoder(str(bert), "cls").settings().keys() == {"name", "model", "weights"}
    assert sentence_transformer("minilm").settings().keys() == {"name", "model", "weights", "settings"}
