"""A model folder to begin from where there is no pretrained one: random weights and a tokenizer of its own.

The tokenizer is byte-level BPE over the rows' own words (their texts as the guard reads them, their policies
and rationales), so every text has an encoding; the weights are those of a Qwen2 with untrained layers. What
comes out knows nothing: it is what the warm start takes in.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from guard.prompt import PromptTemplate, as_read, load_template
from guard.training.data.rows import LabelledRow
from guard.training.durable import sync_folder
from guard.training.tokenizer import END_OF_TEXT, SPECIAL, TURN_END, save_tokenizer, token_id
from guard.training.weights import settle, write_template
from schemas.policy import canonical_categories

Positive = Annotated[int, Meta(ge=1)]


class ScratchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of the model; the defaults give 26 million parameters."""

    seed: Annotated[int, Meta(ge=0)] = 0
    template: str = "rsafe-instruct-1"
    """A prompt template by name or file."""
    vocabulary: Annotated[int, Meta(ge=300, le=256_000)] = 16_000
    """Tokens at most; few rows give fewer."""
    width: Positive = 384
    layers: Positive = 12
    head_width: Positive = 64
    """vLLM on CPUs takes 32, 64, 80, 96, 112 and 128."""
    hidden: Positive = 1024
    max_positions: Positive = 4096
    """Longest prompt and answer together, in tokens."""

    def __post_init__(self) -> None:
        if self.width % self.head_width:
            raise ValueError(
                f"width: found {self.width}; expected a multiple of head_width ({self.head_width})"
            )


def make_scratch_model(settings: ScratchSettings, rows: Sequence[LabelledRow], folder: Path) -> Path:
    """Write the folder whole or not at all; the same settings and rows give the same files."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    template = load_template(settings.template)
    tokenizer = _tokenizer(settings, template, rows)
    save_tokenizer(tokenizer, partial)
    write_template(template, partial)
    _save_weights(settings, tokenizer, partial)
    settle(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    sync_folder(folder.parent)
    return folder


def _tokenizer(settings: ScratchSettings, template: PromptTemplate, rows: Sequence[LabelledRow]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(_texts(template, rows), trainer)
    # Added and not special, as in Qwen3: a decoder must not drop the marks of the reasoning.
    tokenizer.add_tokens([template.think_open, template.think_close])
    return tokenizer


def _texts(template: PromptTemplate, rows: Sequence[LabelledRow]) -> Iterator[str]:
    seen: set[int] = set()
    for row in rows:
        if id(row.policy) not in seen:
            seen.add(id(row.policy))
            yield template.system_text(canonical_categories(row.policy))
        # The boundary mark is hexadecimal and new for every question: nothing to learn a token from.
        yield "".join(template.conversation_text("", as_read(row.turns)))
        yield f" {row.rationale}{template.answer_lead}\\boxed{{{row.label}}} {', '.join(row.codes)}"
    yield "system\nuser\nassistant\n"


def _save_weights(settings: ScratchSettings, tokenizer: Tokenizer, folder: Path) -> None:
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    end, pad = token_id(tokenizer, TURN_END), token_id(tokenizer, END_OF_TEXT)
    heads = settings.width // settings.head_width
    config = Qwen2Config(
        vocab_size=-(-tokenizer.get_vocab_size() // 64) * 64,  # whole tiles of a GPU
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False)
    model.save_pretrained(folder)
