"""Old public names work for one release, and each emits one warning that names its replacement and the line of the caller."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import conjure
import conjure.errors
from analytic_pipelines import AnalyticPipeline, gaussian, process_of
from conjure.deprecation import deprecated_property, renamed_keywords, warn_renamed
from conjure.divergence.differences import PerStepDivergence
from conjure.divergence.estimates import Estimate


@renamed_keywords(old="new", former="current")
def example(value: int, *, new: int = 0, current: int = 0) -> tuple[int, int, int]:
    """Return the arguments."""
    return value, new, current


class Example:
    """A class with one renamed attribute."""

    def __init__(self) -> None:
        self.new = "value"

    old = deprecated_property("old", "new")


class PipelineWithArgument(AnalyticPipeline):
    """A pipeline whose call has a further argument, `a`."""

    def __call__(self, prompt, num_inference_steps=10, generator=None, output_type="latent", a=0):
        return super().__call__(prompt, num_inference_steps, generator, output_type)


@pytest.fixture
def process():
    plain = process_of({"p": gaussian(0.0), "q": gaussian(1.0)}, steps=4, batch_size=100)
    pipeline = PipelineWithArgument(plain.scheduler)
    pipeline.texts = plain.pipeline.texts
    return replace(plain, pipeline=pipeline)


@pytest.fixture
def estimate():
    values = np.ones((2, 3))
    return Estimate.from_per_step(
        PerStepDivergence(values, values, 2 * values),
        texts=("p", "q"), divergence="jeffreys", weighting="uniform", unit="squared norm", antithetic=False, seed=0,
        timesteps=(2.0, 1.0, 0.0), snr=(0.1, 1.0, 10.0), process={}, fingerprint="0123", version="1",
    )  # fmt: skip


def test_warnings_name_both_names():
    with pytest.warns(DeprecationWarning, match="^old was renamed to new; the old name will be removed in the next release$"):
        warn_renamed("old", "new")


def test_warnings_point_to_the_caller():
    """Otherwise Python would hide them, since it shows DeprecationWarnings of the user's own code only."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        example(1, old=2)  # type: ignore[call-arg]
        _ = Example().old
        _ = conjure.TextCutWarning
        _ = conjure.errors.TextCutWarning
    assert [warning.category for warning in caught] == [DeprecationWarning] * 4
    assert [warning.filename for warning in caught] == [__file__] * 4


# Keyword arguments


def test_new_keywords_emit_no_warning():
    assert example(1) == (1, 0, 0)
    assert example(1, new=2, current=3) == (1, 2, 3)


def test_old_keywords_are_passed_on_under_their_new_names():
    with pytest.warns(DeprecationWarning, match=r"the argument 'old' of example\(\) was renamed to 'new'") as caught:
        assert example(1, old=2, current=3) == (1, 2, 3)  # type: ignore[call-arg]
    assert len(caught) == 1
    with pytest.warns(DeprecationWarning, match="the argument 'old'|the argument 'former'") as caught:
        assert example(1, old=2, former=3) == (1, 2, 3)  # type: ignore[call-arg]
    assert len(caught) == 2


def test_an_argument_under_both_names_is_an_error():
    with pytest.raises(TypeError, match=r"example\(\) got both 'old' and 'new'; give 'new' alone"):
        example(1, old=2, new=2)  # type: ignore[call-arg]


def test_the_decorated_function_keeps_its_documentation():
    assert (example.__name__, example.__doc__) == ("example", "Return the arguments.")
    assert list(inspect.signature(example).parameters) == ["value", "new", "current"]


# Attributes


def test_old_attributes_return_the_value_of_the_new_one():
    with pytest.warns(DeprecationWarning, match=r"Example\.old was renamed to Example\.new"):
        assert Example().old == "value"
    with pytest.raises(AttributeError):
        Example().old = "other"


def test_renamed_warning_class():
    for module in (conjure, conjure.errors):
        with pytest.warns(DeprecationWarning, match="TextCutWarning was renamed to .*TextTruncationWarning"):
            assert module.TextCutWarning is conjure.TextTruncationWarning
        with pytest.raises(AttributeError, match="NoSuchWarning"):
            _ = module.NoSuchWarning


@pytest.mark.parametrize(("old", "new"), [("unit", "default_unit"), ("call", "pipeline_kwargs"), ("rows", "batch_size")])
def test_old_attributes_of_a_process(process, old, new):
    with pytest.warns(DeprecationWarning, match=f"Process.{old} was renamed to Process.{new}"):
        assert getattr(process, old) == getattr(process, new)


@pytest.mark.parametrize(
    ("old", "new", "value"), [("unit", "default_unit", "x0"), ("call", "pipeline_kwargs", {"a": 1}), ("rows", "batch_size", 7)]
)
def test_old_settings_of_a_process(process, old, new, value):
    with pytest.warns(DeprecationWarning, match=f"the setting '{old}' was renamed to '{new}'"):
        changed = process.set(**{old: value})
    assert changed == process.set(**{new: value})
    assert getattr(changed, new) == value


def test_alone_is_the_opposite_of_batch_prompts(process):
    with pytest.warns(DeprecationWarning, match="Process.alone was renamed to Process.batch_prompts"):
        assert process.alone is False
    for alone in (True, False):
        with pytest.warns(DeprecationWarning, match="the setting 'alone' was renamed to 'batch_prompts'"):
            assert process.set(alone=alone).batch_prompts is not alone
        with pytest.warns(DeprecationWarning, match="its opposite"):
            assert replace(process, batch_prompts=not alone).alone is alone


def test_identity_is_the_fingerprint(process, estimate):
    with pytest.warns(DeprecationWarning, match=r"Process\.identity\(\) was renamed to Process\.fingerprint\(\)"):
        assert process.identity() == process.fingerprint()
    with pytest.warns(DeprecationWarning, match=r"Estimate\.identity was renamed to Estimate\.fingerprint"):
        assert estimate.identity == "0123"


def test_precision_is_the_target_relative_error(process):
    with pytest.warns(DeprecationWarning, match=r"the argument 'precision' of distance\(\)"):
        old = conjure.distance(process, "p", "q", precision=0.5)  # type: ignore[call-arg]
    assert old.samples == conjure.distance(process, "p", "q", target_relative_error=0.5).samples


def test_new_names_emit_no_warning(process, estimate):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = process.default_unit, process.pipeline_kwargs, process.batch_size, process.batch_prompts, estimate.fingerprint
        _ = process.set(default_unit="x0", batch_size=3).fingerprint(), conjure.TextTruncationWarning


@pytest.mark.parametrize(
    ("old", "module", "new"),
    [
        ("read_file", "pair_files", "read_pairs"),
        ("of_frame", "pair_files", "from_dataframe"),
        ("TASKS", "datasets", "TASKS"),
        ("read", "datasets", "read"),
        ("Pairs", "pair_files", "Pairs"),
    ],
)
def test_names_of_the_old_module_benchmarks(old, module, new):
    import conjure.benchmarks

    with pytest.warns(DeprecationWarning, match=f"conjure.benchmarks.{old} was renamed to conjure.evaluation.{module}.{new}"):
        value = getattr(conjure.benchmarks, old)
    assert value is getattr(import_module(f"conjure.evaluation.{module}"), new)
