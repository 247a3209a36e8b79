"""Weights from and to folders in the Hugging Face layout.

What is written is what serving reads: safetensors only, adapters merged, the tokenizer's files byte for byte
those that training used, the prompt template beside them, and a generation config that names the end tokens.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.checkpoint import checkpoint_files
from guard.errors import TrainingError
from guard.prompt import PromptTemplate, load_template, template_of
from guard.prompt_encoding import end_tokens
from guard.training.durable import sync_folder
from guard.training.grpo_settings import LoraSettings, Precision
from guard.training.lora import adapted, merged

TRAINED: Final = "trained"
MODEL: Final = "model"
TEMPLATE_FILE: Final = "prompt_template.json"
_ADAPTER: Final = "adapter_config.json"
# `tokenizer.json` alone decides the ids (guard.prompt_encoding); the others are for whoever loads the folder
# with another library.
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)


def template_for(folder: Path, name: str) -> PromptTemplate:
    """The template by name or file; without a name the one beside the model, else the default."""
    return load_template(name) if name else template_of(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer as Hugging Face's trainers want it: for padding alone, since ids come from the renderer.

    Read from `tokenizer.json`, whatever class the model's type would choose.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        str(folder), local_files_only=True, padding_side="left"
    )
    ends = end_tokens(folder)
    if not ends:
        raise TrainingError(f"{folder}: no end token; expected eos_token_id in generation_config.json")
    if tokenizer.eos_token_id not in ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(folder: Path, precision: Precision, lora: LoraSettings | None) -> Any:
    """The model to train. Weights that are trained are float32; a base under adapters is in `precision`.

    Raises `TrainingError` where the folder holds no model that can be read, or asks for code of its own.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if lora is not None and precision == "bfloat16" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{folder}: cannot be read as a causal language model: {error}") from error
    return adapted(model, lora) if lora is not None else model


def write_model(
    source: Path, trained: Path, target: Path, *, template: PromptTemplate, saved_as: str
) -> None:
    """Write `target` whole or not at all: the weights of `trained`, the rest of `source`.

    `trained` holds all weights, or an adapter for those of `source`. `saved_as` is a type of torch, or
    `source` for that of the weights in `source`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    is_adapter = (trained / _ADAPTER).is_file()
    base = str(source if is_adapter else trained)
    # Adapters are added in float32, whatever is written then: rounded once and not twice.
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    if is_adapter:
        model = merged(model, trained)
    if saved_as == "source":
        saved_as = str(AutoConfig.from_pretrained(str(source)).dtype or torch.float32).removeprefix("torch.")
    model = model.to(getattr(torch, saved_as))
    ends, pad = _tokens(source)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad, do_sample=False)
    model.config.pad_token_id = pad
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial))
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, partial / name)
    write_template(template, partial)
    settle(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    sync_folder(target.parent)


def write_template(template: PromptTemplate, folder: Path) -> None:
    """Write a prompt template beside a model, which is then asked in its words."""
    content = msgspec.json.format(msgspec.json.encode(template), indent=2)
    (folder / TEMPLATE_FILE).write_bytes(content + b"\n")


def settle(folder: Path) -> None:
    """All files below the folder, and the folder, are on the disk."""
    for name in checkpoint_files(folder):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def _tokens(source: Path) -> tuple[int | list[int], int]:
    """End tokens as the source names them, one or several, and the padding: its own, else the first end."""
    ends = end_tokens(source)
    if not ends:
        raise TrainingError(f"{source}: no end token; expected eos_token_id in generation_config.json")
    pad = ends[0]
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            found = json.loads((source / name).read_text(encoding="utf-8")).get("pad_token_id")
            pad = found if isinstance(found, int) else pad
    return (ends[0] if len(ends) == 1 else list(ends)), pad
