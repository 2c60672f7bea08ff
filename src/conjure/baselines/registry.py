"""The baselines that the names on the command line stand for."""

from __future__ import annotations

from collections.abc import Iterable

from conjure.baselines.base import Baseline, RandomDistances
from conjure.baselines.continuations import ContinuationDistance
from conjure.baselines.embeddings import process_text_encoder, sentence_transformer, transformers_encoder
from conjure.baselines.image_sets import GeneratedImageFeatures, ImageSetDistance, load_feature_extractor
from conjure.baselines.jensen_shannon import JensenShannon
from conjure.baselines.names import check_baseline_names
from conjure.deprecation import renamed_keywords
from conjure.diffusion.process import Process


@renamed_keywords(pictures="images")
def make_baselines(
    specs: Iterable[str], process: Process, *, samples: int = 1, seed: int = 0, images: int = 16
) -> list[Baseline]:
    """Return the baselines with the names `specs`.

    | name | distance |
    |---|---|
    | `encoder` | cosine of the process's text encoder |
    | `sentence:MODEL` | cosine of a sentence-transformers model |
    | `cls:MODEL`, `mean:MODEL` | cosine of a transformers encoder: last hidden state of the first token, or the mean of all |
    | `trajectories:MODEL` | continuations by a causal language model |
    | `gaussian`, `frechet`, `mmd`, `energy`, `sliced-wasserstein` | sets of generated images, by their mean colours |
    | `gaussian:MODEL`, ... | sets of generated images, by the features of a vision model |
    | `jensen-shannon` | Jensen-Shannon divergence between path measures |
    | `random` | random numbers |

    MODEL is a folder, a Hub name with an optional `@revision`, or `minilm` for the text encoder of the default model.

    Args:
        specs: Names of baselines, each one of `names.ALLOWED`. Repeated names count once.
        process: Process whose text encoder and images are compared, and on whose device models are loaded.
        samples: Paths per text for `jensen-shannon`.
        seed: Seed of the baselines that sample.
        images: Images per text for distances of image sets; an integer >= 2.

    Raises:
        InputError: For an unknown name, a model that cannot be loaded, and a process that a baseline cannot be computed for.
    """
    specs = list(dict.fromkeys(specs))
    check_baseline_names(specs)
    device = str(process.device)
    generated: dict[str, GeneratedImageFeatures] = {}  # by vision model, so that all metrics share the same images
    baselines: list[Baseline] = []
    for spec in specs:
        kind, _, model = spec.partition(":")
        if spec == "encoder":
            baselines.append(process_text_encoder(process))
        elif spec == "random":
            baselines.append(RandomDistances(seed))
        elif spec == "jensen-shannon":
            baselines.append(JensenShannon(process, samples, seed))
        elif kind == "sentence":
            baselines.append(sentence_transformer(model, device))
        elif kind == "cls":
            baselines.append(transformers_encoder(model, "cls", device))
        elif kind == "mean":
            baselines.append(transformers_encoder(model, "mean", device))
        elif kind == "trajectories":
            baselines.append(ContinuationDistance.load(model, device, seed=seed))
        else:
            if model not in generated:
                extractor = load_feature_extractor(model or None, device)
                generated[model] = GeneratedImageFeatures(process, extractor, images, seed)
            baselines.append(ImageSetDistance(kind, generated[model]))
    return baselines
