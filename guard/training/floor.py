"""The floor: TF-IDF and logistic regression, which read no policy. A guard that does not beat it is no use.

The second door to scikit-learn within training. It learns from the rows that training saw, on the texts as a
guard reads them, and says `unsafe` from a probability of one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from guard.prompt import as_read
from guard.training.data.rows import LabelledRow
from guard.training.measured_rows import Reply

# Words and word pairs say what is spoken of; pieces reach odd spellings and languages without spaces.
_WORDS: Final = (1, 2)
_PIECES: Final = (2, 5)
# The most frequent ones; more cost memory and gain little.
_MOST_FEATURES: Final = 200_000
_MOST_CHARACTERS: Final = 4000
_THRESHOLD: Final = 0.5
_STEPS: Final = 300
# In the id of a row that was made of another one: `<id>~…` (guard/training/data/vary.py).
_MADE: Final = "~"


class CannotLearn(Exception):
    """The rows are all of one kind."""


def floor_replies(
    training: Sequence[LabelledRow], rows: Sequence[LabelledRow], seed: int = 0
) -> dict[str, Reply]:
    """Row id → what the floor says of it. Labels count as they stand, whatever policy they were given under.

    Of texts that stand in `training` under both labels the row as its source has it counts, and not the twins
    that were made of it. Where sources themselves disagree nothing does, since without the policy such texts
    say nothing. Raises `CannotLearn`.
    """
    seen = _learnable(training)
    truths = np.array([row.label == "unsafe" for row in seen], dtype=np.bool_)
    if not len(truths) or truths.all() or not truths.any():
        raise CannotLearn("expected safe and unsafe rows to learn from")
    model = _model(seed).fit([_text(row) for row in seen], truths)
    scores = model.predict_proba([_text(row) for row in rows])[:, 1] if rows else []
    return {row.id: _reply(float(score)) for row, score in zip(rows, scores, strict=True)}


def _reply(score: float) -> Reply:
    return Reply(label="unsafe" if score >= _THRESHOLD else "safe", score=round(score, 6))


def _model(seed: int) -> Any:
    common: dict[str, Any] = {"sublinear_tf": True, "max_features": _MOST_FEATURES, "dtype": np.float32}
    texts = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=_WORDS, **common)),
            ("pieces", TfidfVectorizer(analyzer="char_wb", ngram_range=_PIECES, **common)),
        ]
    )
    learner = LogisticRegression(C=10.0, max_iter=_STEPS, solver="liblinear", random_state=seed)
    return Pipeline([("texts", texts), ("learner", learner)])


def _learnable(rows: Sequence[LabelledRow]) -> list[LabelledRow]:
    both = _under_both(rows)
    originals = [row for row in rows if _MADE not in row.id or _text(row) not in both]
    both = _under_both(originals)
    return [row for row in originals if _text(row) not in both]


def _under_both(rows: Sequence[LabelledRow]) -> set[str]:
    """Texts that stand under both labels."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(_text(row), set()).add(row.label)
    return {text for text, found in labels.items() if len(found) > 1}


def _text(row: LabelledRow) -> str:
    """The judged turn, and the end of the one before it; both as a guard reads them."""
    turns = as_read(row.turns[-2:])
    earlier = turns[0].text[-_MOST_CHARACTERS // 4 :] if len(turns) > 1 else ""
    return f"{turns[-1].text[:_MOST_CHARACTERS]}\n{earlier}"
