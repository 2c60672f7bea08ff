"""Names of baselines on the command line, invalid names, and the baseline of random distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import conjure.baselines
from conjure import InputError
from conjure.baselines.base import RandomDistances
from conjure.baselines.names import ALLOWED
from conjure.baselines.registry import make_baselines
from rated_pairs import write_pairs
from tiny_language_models import save_bert, save_gpt2


def test_random_distances_are_independent_of_the_texts():
    pairs = [(f"text {i}", f"other {i}") for i in range(2000)]
    distances = RandomDistances(0).distances(pairs)[:, 0]
    assert stats.kstest(distances, "uniform").pvalue > 0.001
    np.testing.assert_array_equal(distances, RandomDistances(0).distances([(b, a) for a, b in pairs])[:, 0])
    assert abs(stats.spearmanr(distances, RandomDistances(1).distances(pairs)[:, 0]).statistic) < 0.1


def test_all_names_of_the_command_line(default_process, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "gpt2").mkdir()
    bert, gpt2 = str(save_bert(tmp_path / "bert")), str(save_gpt2(tmp_path / "gpt2"))
    for allowed in ALLOWED:
        kind, _, model = allowed.replace("[:MODEL]", "").partition(":")
        name = f"{kind}:{gpt2 if kind == 'trajectories' else bert}" if model else kind
        (baseline,) = make_baselines([name], default_process.set(steps=2), images=2)
        assert baseline.name == name
        assert baseline.settings()["name"] == name


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
def test_invalid_names_are_refused(default_process, spec, message):
    with pytest.raises(InputError, match=message):
        make_baselines([spec], default_process)


def test_former_names_emit_a_deprecation_warning(default_process):
    with pytest.warns(DeprecationWarning, match="conjure.baselines.baselines was renamed"):
        old_function = conjure.baselines.baselines
    with pytest.warns(DeprecationWarning, match="'pictures'.* was renamed to 'images'"):
        (old,) = old_function(["mmd"], default_process, pictures=3, seed=5)
    (new,) = make_baselines(["mmd"], default_process, images=3, seed=5)
    assert old.settings() == new.settings()
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = conjure.baselines.no_such_name


def test_names_are_checked_before_the_model_is_loaded(conjure_command, tmp_path):
    pairs = write_pairs(tmp_path / "own.tsv")
    code, _, error = conjure_command("bench", "--data", pairs, "--model", "no such model", "--baseline", "none")
    assert (code, "unknown baseline 'none'; allowed are" in error) == (2, True)
