"""One outcome of several calls about one message, each about another category of the policy.

Some guards are asked about one risk a call. Their answers name no code, so each verdict gets that of the
category it was asked about, and its score is the category's. Together they are the worst of all, as with text
windows (`worst`): one `unsafe` makes the whole unsafe, `safe` needs a `safe` of every category, and the score
is the highest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from guard.serving.worst import worst
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict


def about(outcome: Verdict | Unjudged, policy: Policy) -> Verdict | Unjudged:
    """What a call about a policy of one category gave, with the category's code and score."""
    if isinstance(outcome, Unjudged):
        return outcome
    (category,) = policy.categories
    return msgspec.structs.replace(
        outcome,
        codes=(category.code,) if outcome.label == "unsafe" else (),
        category_scores={} if outcome.score is None else {category.code: outcome.score},
    )


def worst_category(outcomes: Sequence[Verdict | Unjudged], policy: Policy) -> Verdict | Unjudged:
    """One outcome of those of the policy's categories, 1 or more, each from `about`."""
    if len(outcomes) == 1:
        return outcomes[0]
    found = worst(outcomes, policy)
    if isinstance(found, Unjudged):
        return msgspec.structs.replace(found, windows=1)
    return msgspec.structs.replace(found, windows=1, by_window=())
