"""The module that model folders name in `model_index.json`; the classes are in `conjure.models.sentence_encoder`."""

from conjure.models.sentence_encoder import PreTrainedModel, SentenceEncoder

__all__ = ["PreTrainedModel", "SentenceEncoder"]
