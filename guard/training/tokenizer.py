"""The tokenizer of a model from scratch: byte-level BPE, NFKC and lower case, over the generator's words or
those of labelled rows (`row_words.py`).

Lower case on purpose: half as many entries know the same words, and a small model's entries are most of its
weights. Of the generator's words some 2,200 tokens, so few that an unseen word takes three to six pieces, and
a model that has learnt to copy pieces can look up any word. Byte-level, so every text has an encoding.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from guard.prompt import PromptTemplate
from guard.training.generator.conversations import draw_group
from guard.training.generator.lexicon import CODE_LETTERS, HIGHEST_CODE
from guard.training.generator.policies import draw_term, wordings_with
from guard.training.generator.words import wrong_nonce

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# A category code is one word, so that one look-up copies it whole; the rest is GPT-2's pattern.
_WORDS: Final = (
    r" ?[{letters}]\d{1,2}(?![\p{L}\p{N}])"
    r"|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END)
CHAT_TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
# How often each code stands among the texts: often enough for an entry of its own.
_CODE_LINES: Final = 1000


def train_tokenizer(
    template: PromptTemplate,
    vocabulary: int,
    texts: Iterable[str],
    code_letters: Iterable[str] = CODE_LETTERS,
) -> Tokenizer:
    """Train on the texts; the same arguments give the same tokenizer, of at most `vocabulary` entries.

    `code_letters`, in lower case, begin category codes.
    """
    words = _WORDS.replace("{letters}", "".join(code_letters))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, template.think_open, template.think_close],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())
    for added in content["added_tokens"]:
        # The reasoning marks are ordinary added tokens, as in Qwen3: a decoder must not drop them.
        added["special"] = added["content"] in SPECIAL
    return Tokenizer.from_str(json.dumps(content))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "padding_side": "left",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must exist."""
    index = tokenizer.token_to_id(token)
    if index is None:
        raise ValueError(f"the tokenizer has no {token}")
    return index


def generator_texts(
    template: PromptTemplate, seed: int, groups: int = 3000, prose: float = 0.0
) -> Iterator[str]:
    """Prompts, answers and terms as the generator draws them, so many groups of exchanges.

    `prose` is the share of definitions that are sentences.
    """
    rng = random.Random(seed)
    for offset in range(groups):
        policy, exchanges = draw_group(seed + 900_000 + offset, wordings=wordings_with(prose))
        yield template.system_text(policy)
        for exchange in exchanges:
            nonce = wrong_nonce(rng, template.nonce_length)
            yield "".join(template.conversation_text(nonce, exchange.turns))
            yield f" {exchange.trace}\n{exchange.verdict}"
    for _ in range(groups + groups // 3):
        yield " " + " ".join(draw_term(rng, "train") for _ in range(10))
    yield from words_of_form(groups // 3)


def words_of_form(lines: int = _CODE_LINES) -> Iterator[str]:
    """What every tokenizer knows, so often: the roles of the chat template and the generator's codes."""
    for _ in range(lines):
        yield "system\nuser\nassistant\n"  # one token each
        yield "".join(
            f" {letter}{number}" for letter in CODE_LETTERS for number in range(1, HIGHEST_CODE + 1)
        )
