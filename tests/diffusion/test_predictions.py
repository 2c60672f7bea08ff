"""Conversion of predictions between the types of models."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from conjure.diffusion.noise_levels import NoiseLevel
from conjure.diffusion.predictions import convert_prediction, predict_x0
from conjure.errors import InputError

TYPES = ("epsilon", "v_prediction", "sample")
LEVEL = NoiseLevel(alpha=0.6, sigma=0.8)


@pytest.mark.parametrize(("source", "target"), list(product(TYPES, TYPES)))
def test_a_converted_prediction_implies_the_same_x0(source, target):
    x0, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).split(1)
    x_t = LEVEL.alpha * x0 + LEVEL.sigma * noise
    exact = {"epsilon": noise, "v_prediction": LEVEL.alpha * noise - LEVEL.sigma * x0, "sample": x0}
    converted = convert_prediction(exact[source], source, target, x_t, LEVEL)
    assert torch.allclose(converted, exact[target], atol=1e-6)
    assert torch.allclose(predict_x0(target, x_t, converted, LEVEL), x0, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "level"),
    [
        ("flow", "epsilon", LEVEL),
        ("sample", "flow", LEVEL),
        ("epsilon", "sample", NoiseLevel(alpha=0.0, sigma=1.0)),
        ("sample", "epsilon", NoiseLevel(alpha=1.0, sigma=0.0)),
    ],
)
def test_undefined_conversions_are_refused(source, target, level):
    with pytest.raises(InputError, match="; (compare|choose)"):
        convert_prediction(torch.ones(1, 2), source, target, torch.ones(1, 2), level)
