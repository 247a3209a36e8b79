"""Tokenizers of the kinds that serving meets, and texts that are hard for them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from guard.checkpoint import SHIPPED
from guard.prompt_encoding import TextEncoder

_CORPUS = (
    "judge the last turn by this policy gambling casino",
    "e\u0301te\u0301 \u00e9t\u00e9 A\u030a \u00c5ngstr\u00f6m \ud55c\uad6d\uc5b4 \u110c\u1169 \u4f60\u597d",
    "          \t\t   ---------- \u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u30ac\u30ad\u3099",
    # Composed of up to four of the characters below, and tokens of their own.
    "\uac01 \uac01\uac01\uac01\uac01 \u1f82\u1f82 \u1f82 \u1ec7\u1ec7 \u30ac\u30ae\u30ae \u0ddd\u0ddd",
    "\U0001f600\U0001f600\U0001f469\u200d\U0001f467 1234567890 \ufb01 \u0130i\u0307 <think>",
)


def _trained(
    *,
    normalizer: Any = None,
    pre_tokenizer: Any = None,
    ignore_merges: bool = False,
    byte_fallback: bool = False,
) -> Tokenizer:
    """A BPE over the corpus: of bytes, or of characters with bytes for those that it lacks."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges, byte_fallback=byte_fallback))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        show_progress=False,
        initial_alphabet=[] if byte_fallback else pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<think>", *(fallback if byte_fallback else [])],
    )
    tokenizer.train_from_iterator(_CORPUS * 3, trainer)
    tokenizer.add_tokens([AddedToken("<|end|>", special=True)])
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in fallback]
    return Tokenizer.from_str(json.dumps(content))


def _spaces(*more: Any) -> Any:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), *more])


def _bytes(*, use_regex: bool = True) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


TOKENIZERS: Final[dict[str, Callable[[], Tokenizer]]] = {
    "shipped": lambda: Tokenizer.from_file(str(SHIPPED / "tiny" / "tokenizer.json")),
    "bytes": lambda: _trained(pre_tokenizer=_bytes()),
    "bytes, unsplit": lambda: _trained(pre_tokenizer=_bytes(use_regex=False)),
    "bytes, whole words": lambda: _trained(pre_tokenizer=_bytes(), ignore_merges=True),
    "bytes, NFC": lambda: _trained(normalizer=normalizers.NFC(), pre_tokenizer=_bytes()),
    "bytes, NFKC, unsplit": lambda: _trained(
        normalizer=normalizers.NFKC(), pre_tokenizer=_bytes(use_regex=False)
    ),
    "bytes, NFD, no accents": lambda: _trained(
        normalizer=normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        ),
        pre_tokenizer=_bytes(),
    ),
    "bytes, NFKD to NFC to lower": lambda: _trained(
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.NFC(), normalizers.Lowercase()]),
        pre_tokenizer=_bytes(use_regex=False),
    ),
    "bytes after digits": lambda: _trained(
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _bytes()])
    ),
    "characters": lambda: _trained(normalizer=_spaces(), byte_fallback=True),
    "characters, NFKC": lambda: _trained(normalizer=_spaces(normalizers.NFKC()), byte_fallback=True),
    "characters, Metaspace": lambda: _trained(pre_tokenizer=pre_tokenizers.Metaspace(), byte_fallback=True),
}


@cache
def encoder(name: str) -> TextEncoder:
    """Read from a folder, as serving reads it."""
    with tempfile.TemporaryDirectory() as folder:
        TOKENIZERS[name]().save(str(Path(folder) / "tokenizer.json"))
        return TextEncoder(Path(folder))


# Characters that join, part, grow, shrink or vanish, and words that are tokens.
PIECES: Final = (
    *"aeAIK \n\t1-<▁",
    *"\u0301\u0300\u0345\u0323\u0344\u030a\u0307\u0338\u20d2",  # marks
    *"\u1100\u1161\u11a8\uac00\ud55c",  # Hangul in letters and syllables
    *"\u30ad\u3099\uff76\uff9e\u09c7\u09be\u09d7\u0dd9\u0dcf\u0dca",  # second characters that are joined
    *("\u1100\u1161\u11a8", "\u03b1\u0313\u0300\u0345", "e\u0323\u0302"),  # each becomes one character
    *"\u00e9\u1f82\u03b1\u0130\u212a\u212b\u2126\ufdfa\ufb01\u0958\u2adc\u1e9b",
    *"\U0001f600\U000110ba\U00011099\U0001d15e\u200d\ufe0f\0",
    *("gambling", "<think>", "<|end|>", "          ", "----------", "\uff1cthink\uff1e"),
)
TEXTS: Final = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
