"""A small tokenizer for tests."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CLIPTokenizer


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a tokenizer in CLIP's format whose tokens are single characters."""
    characters = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    vocabulary = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)
