"""Text → token ids in two ways: trusted structure with the added vocabulary, everything else without it.

Tokenizers match *every* added token in a text, special or not (`<think>`, `<|im_end|>`), so a message could
write the prompt's own structure. Here the structure comes from the tokenizer's chat template, applied to
sentinels and split at them; policy and messages are encoded by a copy of the tokenizer that has no added
tokens.

The tokenizer is read from `tokenizer.json` as it is. `AutoTokenizer` may choose a class by the model's type
that drops the normalizer, and the model then reads other ids than it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from guard.chat_template import chat_of
from guard.errors import TemplateError
from guard.prompt_length import length_bound

_SYSTEM, _USER = "RSAFEsystemRSAFE", "RSAFEuserRSAFE"
# A cut may bring about another added token beside it. Two rounds are usual; a text that needs more than these
# is not judged.
_MOST_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The chat structure around the two texts: before the system text, between, and after the user text."""

    before: str
    between: str
    after: str


class TextEncoder:
    """Encodes and decodes with one `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        try:
            source = path.read_text(encoding="utf-8")
            self._with_added = Tokenizer.from_str(source)
        except FileNotFoundError:
            raise TemplateError(f"no tokenizer.json in {folder}") from None
        except Exception as error:
            raise TemplateError(f"cannot read {path}: {error}") from error
        self._with_added.no_truncation()
        self._with_added.no_padding()
        content: dict[str, Any] = json.loads(source)
        self._length_bound = length_bound(content)
        self._plain, self._forbidden = _without_added_tokens(content)

    def structure(self, text: str) -> tuple[int, ...]:
        """Ids of trusted text; strings of the added vocabulary become their tokens."""
        return tuple(self._with_added.encode(text, add_special_tokens=False).ids)

    def plain(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of untrusted texts, one entry a text; none is of the added vocabulary, whatever they say."""
        encoded = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        pieces = [tuple(e.ids) for e in encoded]
        return [
            ids if self._forbidden.isdisjoint(ids) else self._cut_apart(text)
            for ids, text in zip(pieces, texts, strict=True)
        ]

    def surely_longer(self, texts: Sequence[str], room: int) -> bool:
        """Whether `plain` would give more than `room` ids in all, told without encoding; False says nothing.

        Always False for a kind of tokenizer of which too little is known (`guard.prompt_length`).
        """
        return self._length_bound is not None and self._length_bound.exceeded(texts, room)

    def token_starts(self, text: str, most: int) -> list[int] | None:
        """At which character each id of `plain` begins, in order; None when there are more than `most` ids.

        A text that is far too long is not encoded to find that out.
        """
        if self.surely_longer([text], most):
            return None
        (encoded,) = self._plain.encode_batch([text], add_special_tokens=False)
        if len(encoded) > most:  # before its numbers become objects of Python, with the interpreter locked
            return None
        if not self._forbidden.isdisjoint(encoded.ids):
            pieces = self._plain.encode_batch_fast(list(text), add_special_tokens=False)
            starts = [at for at, piece in enumerate(pieces) for _ in range(len(piece))]
            return starts if len(starts) <= most else None
        # In order whatever a normalizer does, for windows are cut by these.
        return list(accumulate((start for start, _ in encoded.offsets), max))

    def token(self, text: str) -> int | None:
        """The id of an added token, or None when the tokenizer has none of this name."""
        for index, added in self._with_added.get_added_tokens_decoder().items():
            if added.content == text:
                return index
        return None

    def decode(self, ids: Sequence[int]) -> str:
        return self._with_added.decode(list(ids), skip_special_tokens=False)

    @property
    def added_strings(self) -> tuple[str, ...]:
        """The strings of the added vocabulary."""
        return tuple(one.content for one in self._with_added.get_added_tokens_decoder().values())

    @property
    def vocabulary_size(self) -> int:
        return self._with_added.get_vocab_size(with_added_tokens=True)

    def _cut_apart(self, text: str) -> tuple[int, ...]:
        """Ids of a text that comes out as added tokens: it is cut within those, and nowhere else.

        So whoever writes `</s>` changes the spelling of that, and not of the boundary mark before it.
        """
        cuts = {0, len(text)}
        for _ in range(_MOST_ROUNDS):
            places = sorted(cuts)
            parts = [text[start:end] for start, end in pairwise(places)]
            encoded = self._plain.encode_batch(parts, add_special_tokens=False)
            found = [
                (start + first, start + last)
                for start, part in zip(places, encoded, strict=False)
                for i, (first, last) in zip(part.ids, part.offsets, strict=True)
                if i in self._forbidden
            ]
            if not found:
                return tuple(i for part in encoded for i in part.ids)
            cuts.update(at for first, last in found for at in range(first + 1, last))
            if len(cuts) == len(places):
                break
        raise TemplateError("the tokenizer makes tokens of its added vocabulary of a text however it is cut")


def _without_added_tokens(content: dict[str, Any]) -> tuple[Tokenizer, frozenset[int]]:
    added = content.get("added_tokens") or []
    changed = content | {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    # Runs of white space and single characters are vocabulary of some tokenizers; they cannot forge
    # structure.
    forbidden = frozenset(int(t["id"]) for t in added if len(t["content"].strip()) > 1)
    return Tokenizer.from_str(json.dumps(changed)), forbidden


def read_skeleton(folder: Path) -> Skeleton:
    """The chat structure of the folder's tokenizer; without a chat template, a plain layout.

    A template without a system role gets the system text at the head of the user's.
    """
    if not _has_chat_template(folder):
        return Skeleton(before="", between="\n\n", after="\n\n")
    chat = chat_of(folder)
    both = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
    folded = [{"role": "user", "content": f"{_SYSTEM}\n\n{_USER}"}]
    for messages in (both, folded):
        skeleton = None if chat is None else _split(chat(messages))
        if skeleton is not None:
            return skeleton
    raise TemplateError(f"the chat template in {folder} shows neither system nor user text")


def end_tokens(folder: Path) -> tuple[int, ...]:
    """The ids that end a completion, from generation_config.json or config.json."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            if value is not None:
                return tuple(value) if isinstance(value, list) else (int(value),)
    return ()


def common_prefix(sequences: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The longest common beginning."""
    columns = zip(*sequences, strict=False)
    prefix: list[int] = []
    for column in columns:
        if len(set(column)) > 1:
            break
        prefix.append(column[0])
    return tuple(prefix)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def _split(rendered: str) -> Skeleton | None:
    before, found_system, rest = rendered.partition(_SYSTEM)
    between, found_user, after = rest.partition(_USER)
    if not found_system or not found_user or _SYSTEM in rest or _USER in after:
        return None
    return Skeleton(before=before, between=between, after=after)
