"""Folders of small tokenizers with the control tokens and chat templates of the guards that profiles are for.

The real ones cannot be had here. Each template has the structure of the maker's: what stands where, and which
arguments it takes. Its long texts are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from guard.training.attacks.texts import written_attacks

_CORPUS: Final = (
    "Task: Check if there is unsafe content in messages in conversations according our safety policy",
    "You are a policy expert. Our safety principle is defined in the below: Human Question: User: Agent:",
    "judge the last turn by this policy gambling casino. Safety: Categories: None Violent Refusal: score",
    *["Safety: Safe", "Safety: Unsafe", "Safety: Controversial", "unsafe safe", "yes no Yes No"] * 20,
    *(line for one in written_attacks() for line in one.text.split("\n")),
)
_QWEN3GUARD: Final = (
    "<|im_start|>user\n# Task: evaluate {{ messages[-1].role }}\n<BEGIN CONVERSATION>\n\n"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ 'USER' if m.role == 'user' else 'ASSISTANT' }}: {{ m.content }}\n\n{% endfor %}<END CONVERSATION>\n\n"
    "Provide your safety assessment for ONLY THE LAST message.<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)
_GRANITE_3: Final = (
    "<|start_of_role|>user<|end_of_role|>You are a safety agent.\n\n<start_of_turn>\n"
    "{% for m in messages %}{{ 'User' if m.role == 'user' else 'Assistant' }} Message: {{ m.content }}\n\n"
    "{% endfor %}<end_of_turn>\n\n<start_of_risk_definition>\n{{ guardian_config.risk_definition }}\n"
    "<end_of_risk_definition>\n\nAnswer Yes or No.<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>"
)
_GRANITE_3_3: Final = (
    "<|start_of_role|>system<|end_of_role|>As a judge agent.<|end_of_text|>\n"
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
    "{% endfor %}<|start_of_role|>judge_protocol<|end_of_role|>### Criteria: "
    "{{ guardian_config.custom_criteria }}\n\n### Scoring Schema: "
    "{{ guardian_config.custom_scoring_schema }}<|end_of_text|>\n"
    "<|start_of_role|>judge{{ '' if think else '{no_think}' }}<|end_of_role|>"
)
_CHAT_ML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_PLAIN: Final = ("<think>", "</think>")
_LLAMA_3: Final = (
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_LLAMA_4: Final = ("<|end_of_text|>", "<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>")
_GRANITE: Final = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>")
_HARMONY: Final = (
    "<|endoftext|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<|call|>",
)


class Family(NamedTuple):
    """What a folder is made of."""

    special: tuple[str, ...]
    plain: tuple[str, ...]
    """Added tokens that are not special."""
    template: str
    end: str
    model_type: str


FAMILIES: Final[dict[str, Family]] = {
    "rsafe-boxed-1": Family(_QWEN, _QWEN_PLAIN, _CHAT_ML, "<|im_end|>", "qwen2"),
    "instruct": Family(_QWEN, _QWEN_PLAIN, _CHAT_ML, "<|im_end|>", "qwen2"),
    "rsafe-release": Family(_QWEN, _QWEN_PLAIN, _CHAT_ML, "<|im_end|>", "qwen2"),
    "gpt-oss-safeguard": Family(_HARMONY, (), "", "<|return|>", "gpt_oss"),
    "qwen3guard-gen": Family(_QWEN, _QWEN_PLAIN, _QWEN3GUARD, "<|im_end|>", "qwen3"),
    "qwen3guard-gen-loose": Family(_QWEN, _QWEN_PLAIN, _QWEN3GUARD, "<|im_end|>", "qwen3"),
    "llama-guard-3": Family(_LLAMA_3, (), "", "<|eot_id|>", "llama"),
    "llama-guard-3-policy": Family(_LLAMA_3, (), "", "<|eot_id|>", "llama"),
    "llama-guard-4": Family(_LLAMA_4, (), "", "<|eot|>", "llama4"),
    "llama-guard-4-policy": Family(_LLAMA_4, (), "", "<|eot|>", "llama4"),
    "shieldgemma": Family(
        ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), (), "", "<end_of_turn>", "gemma2"
    ),
    "granite-guardian-3": Family(_GRANITE, (), _GRANITE_3, "<|end_of_text|>", "granite"),
    "granite-guardian-3.3": Family(_GRANITE, _QWEN_PLAIN, _GRANITE_3_3, "<|end_of_text|>", "granite"),
}
"""By the name of the profile."""
RELEASE_TEMPLATE: Final = {
    "version": "release-of-the-tests",
    "system": "Judge the last turn. U1: violence. U2: weapons.",
    "category": "{code}",
}


def write_profile_folder(folder: Path, profile: str, *, length: int = 2048) -> int:
    """Tokenizer, chat template and configuration; returns the size of the vocabulary."""
    family = FAMILIES[profile]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(family.special),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": family.end}
    if family.template:
        config["chat_template"] = family.template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if profile == "rsafe-release":
        (folder / "prompt_template.json").write_text(json.dumps(RELEASE_TEMPLATE))
    size = tokenizer.get_vocab_size()
    model = {"model_type": family.model_type, "vocab_size": size, "max_position_embeddings": length}
    (folder / "config.json").write_text(
        json.dumps(model | {"eos_token_id": tokenizer.token_to_id(family.end)})
    )
    return size
