"""Small tokenizers of the families that checkpoints come with, each with a chat template of its kind.

Each is a folder as a checkpoint has it: `tokenizer.json`, `tokenizer_config.json` with the chat template, and
`config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from guard.training.attacks.texts import written_attacks

# What the vocabularies are trained on, line by line. The attacks are in it, so that parts of special tokens
# are pieces; the verdict is not, since a vocabulary that has it as one piece cannot tell where the two part.
_CORPUS: Final = (
    "judge the last turn by this policy gambling casino listed harmless not listed.",
    "You review one conversation. safe unsafe boxed <think> </think> user: assistant:",
    "e\u0301te\u0301 Ångström 한국어 你好 слово صلى",
    *(line for one in written_attacks() for line in one.text.replace("\\boxed{safe}", "").split("\n")),
)
_VOCABULARY: Final = 900
# The pre-tokeniser of Qwen 2 and 3, and the one of Llama 3 but for the digits.
_QWEN_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_CHAT_ML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
_LLAMA_2: Final = (
    "{% if messages[0].role == 'system' %}<s>[INST] <<SYS>>\n{{ messages[0].content }}\n<</SYS>>\n\n"
    "{{ messages[1].content }} [/INST]{% else %}<s>[INST] {{ messages[0].content }} [/INST]{% endif %}"
)
_LLAMA_3: Final = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_GEMMA: Final = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<bos><start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n"
)
_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))


def _byte_level(special: list[str], *, ignore_merges: bool, split: str | None, normalizer: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    parts = [pre_tokenizers.Split(Regex(split), "isolated"), bytes_alone] if split else [bytes_alone]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _llama_3() -> Tokenizer:
    """Byte-level BPE that takes whole words from its vocabulary, special tokens among them."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    return _byte_level(special, ignore_merges=True, split=None, normalizer=None)


def _qwen() -> Tokenizer:
    """Byte-level BPE behind Qwen's pre-tokeniser; `<think>` is an added token and not a special one."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_level(special, ignore_merges=False, split=_QWEN_SPLIT, normalizer=normalizers.NFC())
    plain = ("<think>", "</think>", "<tool_call>", "<tool_response>", "<|fim_middle|>")
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    return tokenizer


def _llama_2() -> Tokenizer:
    """SentencePiece's BPE: a sign for the space, and bytes for what the vocabulary lacks."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[*special, *_BYTES], show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _without_bytes_added(tokenizer)


def _gemma() -> Tokenizer:
    """SentencePiece's Unigram, whose special tokens and bytes are pieces like any other; Metaspace, NFKC."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[*special, *_BYTES],
        initial_alphabet=[chr(code) for code in range(0x21, 0x7F)],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _without_bytes_added(tokenizer, byte_fallback=True)


def _without_bytes_added(tokenizer: Tokenizer, **changes: Any) -> Tokenizer:
    """The trainer makes the bytes added tokens; in the family they are ordinary pieces."""
    content = json.loads(tokenizer.to_str())
    content["model"] |= changes
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in _BYTES]
    return Tokenizer.from_str(json.dumps(content))


# name → how it is made, its chat template, the token that ends a turn
FAMILIES: Final[dict[str, tuple[Callable[[], Tokenizer], str, str]]] = {
    "byte-level, whole words": (_llama_3, _LLAMA_3, "<|eot_id|>"),
    "Qwen's pre-tokeniser": (_qwen, _CHAT_ML, "<|im_end|>"),
    "SentencePiece BPE": (_llama_2, _LLAMA_2, "</s>"),
    "SentencePiece Unigram": (_gemma, _GEMMA, "<end_of_turn>"),
}


def write_family(folder: Path, name: str) -> Path:
    """The folder of a family's tokenizer."""
    make, template, end = FAMILIES[name]
    tokenizer = make()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": tokenizer.token_to_id(end)}))
    return folder
