"""Tiny language models with random weights, saved in the format of transformers. Their tokens are single characters."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as t

CHARACTERS = [chr(code) for code in range(97, 123)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]


def character_tokenizer(folder: Path) -> t.BertTokenizerFast:
    """Return a tokenizer of BERT's class, and write its vocabulary to `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return t.BertTokenizerFast(vocab={token: token_id for token_id, token in enumerate(VOCABULARY)}, model_max_length=64)


def save_bert(folder: Path) -> Path:
    """Save a BERT to `folder`, and return the folder."""
    torch.manual_seed(0)
    config = t.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    character_tokenizer(folder).save_pretrained(folder)
    t.BertModel(config).save_pretrained(folder)
    return folder


def save_gpt2(folder: Path) -> Path:
    """Save a GPT-2 to `folder`, and return the folder. Its weights are enlarged, so that likelihoods differ between tokens."""
    torch.manual_seed(0)
    tokenizer = character_tokenizer(folder)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    config = t.GPT2Config(vocab_size=len(VOCABULARY), n_embd=32, n_layer=2, n_head=2, n_positions=128, eos_token_id=3)
    model = t.GPT2LMHeadModel(config)
    for parameter in model.parameters():
        parameter.data *= 8 if parameter.ndim > 1 else 1
    model.save_pretrained(folder)
    return folder
