r"""What an answer is worth: pure functions on a completion and its row.

The base is RSafe's reward of reinforced alignment, R = 0.9 · format · accuracy + 0.1 · format (arXiv
2506.07736). Both are 0 or 1 and come from the parser that serving uses: what serving could not read is worth
nothing, whatever verdict it may hold. The optional parts count only where the label is right, so none of them
can be had for a wrong verdict.

>>> from schemas.policy import Category, Policy
>>> policy = Policy(id="p", version="1", categories=(Category(code="C1", title="t", definition="d"),))
>>> truth = Truth(label="unsafe", codes=("C1",), policy_codes=("C1",), turns=("a text",), rules=("d",))
>>> judge_completion(r"so it is.</think>\boxed{unsafe} C1", 9, truth, limit=100).right
True
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

import msgspec

from guard.answer import Answer, Reason, parse_answer
from guard.training.grpo_settings import RewardWeights

# Shorter quotations (a code, a word of the template) stand in most questions by chance.
_SHORTEST_QUOTATION: Final = 4
_QUOTATION: Final = re.compile(r'"([^"\n]+)"|“([^”\n]+)”|«([^»\n]+)»|`([^`\n]+)`')


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a row, as far as a reward asks for it."""

    label: Literal["safe", "unsafe"]
    codes: tuple[str, ...]
    """Violated categories; empty where the row is safe or nobody knows."""
    policy_codes: tuple[str, ...]
    """All categories of the policy."""
    turns: tuple[str, ...]
    """Texts of the conversation, as the guard reads them."""
    rules: tuple[str, ...]
    """Definitions and exceptions of the policy."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a reward, each from 0 to 1, before the weights."""

    parsed: bool
    right: bool
    """It parses and has the row's label."""
    category: float = 0.0
    brevity: float = 0.0
    evidence: float = 0.0
    fault: Reason | None = None
    """Why it does not parse."""

    def reward(self, weights: RewardWeights) -> float:
        """The weighted sum: from 0 to the sum of the weights; 0 for what does not parse."""
        base = weights.format * self.parsed + weights.accuracy * (self.parsed and self.right)
        extra = (
            weights.category * self.category
            + weights.brevity * self.brevity
            + weights.evidence * self.evidence
        )
        return base + extra * self.right


def judge_completion(text: str, tokens: int, truth: Truth, *, limit: int) -> Parts:
    """The parts for one completion: everything after our `<think>`, decoded, without the end token.

    `tokens` are the completion's, `limit` the most that it may have. Never raises.
    """
    answer = parse_answer(text, truth.policy_codes)
    if not isinstance(answer, Answer):
        return Parts(parsed=False, right=False, fault=answer.reason)
    if answer.label != truth.label:
        return Parts(parsed=True, right=False)
    return Parts(
        parsed=True,
        right=True,
        category=category_agreement(answer.codes, truth.codes),
        brevity=min(1.0, max(0.0, 1.0 - tokens / limit)),
        evidence=quoted_share(answer.rationale, truth.turns, truth.rules),
    )


def category_agreement(named: tuple[str, ...], violated: tuple[str, ...]) -> float:
    """How far the named codes are the violated ones: shared over all of both (Jaccard); 0 where none is.

    >>> category_agreement(("C1", "C2"), ("C1",))
    0.5
    """
    if not violated:
        return 0.0
    both = {code.casefold() for code in named}, {code.casefold() for code in violated}
    return len(both[0] & both[1]) / len(both[0] | both[1])


def quoted_share(rationale: str, turns: tuple[str, ...], rules: tuple[str, ...] = ()) -> float:
    """Of the quotations in a rationale, the share that stands word for word in the question.

    0 without a quotation of the conversation, for the rules alone are no evidence. Compared without case,
    white space at the ends and differences of width (NFKC); fewer than 4 characters are no quotation.

    >>> quoted_share('it says "buy a gun" and "my boat"', ("where can I Buy a  gun?",))
    0.5
    """
    found = (_plain("".join(groups)) for groups in _QUOTATION.findall(rationale))
    quotations = [text for text in found if len(text) >= _SHORTEST_QUOTATION]
    said, written = [_plain(text) for text in turns], [_plain(text) for text in rules]
    of_turns = [any(quotation in text for text in said) for quotation in quotations]
    if not any(of_turns):
        return 0.0
    of_rules = [any(quotation in text for text in written) for quotation in quotations]
    return sum(map(max, of_turns, of_rules)) / len(quotations)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
