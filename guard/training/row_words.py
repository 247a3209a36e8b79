"""The words of labelled rows, for their own tokenizer: texts as a guard reads them, policies, answers."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from guard.prompt import PromptTemplate, as_read
from guard.training.data.rows import LabelledRow
from guard.training.row_encoding import rationale_of
from guard.training.tokenizer import train_tokenizer, words_of_form
from schemas.policy import canonical_categories


def tokenizer_of_rows(template: PromptTemplate, vocabulary: int, rows: Sequence[LabelledRow]) -> Tokenizer:
    """The same arguments give the same tokenizer, of at most `vocabulary` entries."""
    # Customers' codes begin with any letter, those of the generator with a few.
    return train_tokenizer(template, vocabulary, row_texts(template, rows), string.ascii_lowercase)


def row_texts(template: PromptTemplate, rows: Sequence[LabelledRow]) -> Iterator[str]:
    """Every policy and every conversation once, and the answers; rows of the split `train` alone.

    What is measured on `dev` may not decide what the tokenizer knows.
    """
    policies: set[int] = set()
    conversations: set[object] = set()
    for row in rows:
        if row.split != "train":
            continue
        categories = canonical_categories(row.policy)
        if id(row.policy) not in policies:
            policies.add(id(row.policy))
            yield template.system_text(categories)
        if row.turns not in conversations:
            conversations.add(row.turns)
            # The boundary mark is hexadecimal and new for every question: nothing to learn an entry from.
            yield "".join(template.conversation_text("", as_read(row.turns)))
        codes = ", ".join(row.codes)
        yield f" {rationale_of(row)}{template.answer_text(row.label)} {codes}"
        # A policy's codes count by its rows, so that those in use are entries of their own.
        yield "".join(f" {category.code}" for category in categories)
    yield from words_of_form()
