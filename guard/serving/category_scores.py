"""Which categories an `unsafe` verdict means, each with a score of its own.

After the verdict the model goes on behind the word `unsafe` and writes the codes, with the log-probabilities
of all codes of the policy at each place: one short call, and the prompt up to there is in the engine's prefix
cache. docs/studies/category-scores.md compares it with other ways.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from guard.answer import Unparseable
from guard.code_tree import CodeTree, code_tree
from guard.errors import EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer
from guard.serving.engine import MOST_LOGPROBS, Completion
from schemas.policy import Policy, canonical_categories
from schemas.verdict import Verdict

# Categories with a lower score are left out, or each unsafe verdict of a long policy would list them all.
LEAST_SCORE: Final = 0.01
# As many trees are kept as a worker may have policies in turn; each is made anew in a millisecond.
_KEPT_TREES: Final = 1024


Call = Callable[[tuple[int, ...], tuple[int, ...]], Awaitable[Completion]]
"""A prompt, and the ids whose log-probabilities are wanted → the completion. Counts and bounds its calls."""


class CategoryScores:
    """Reads categories, for one tokenizer. Keeps the tree of each policy's codes."""

    def __init__(self, renderer: PromptRenderer) -> None:
        self._renderer = renderer
        self._trees: OrderedDict[tuple[str, ...], CodeTree | None] = OrderedDict()

    def tree(self, policy: Policy) -> CodeTree | None:
        """The tree of the policy's codes; None where the tokenizer does not tell them apart."""
        codes = tuple(category.code for category in policy.categories)
        if codes not in self._trees:
            ordered = [category.code for category in canonical_categories(policy)]
            self._trees[codes] = code_tree(self._renderer, ordered, MOST_LOGPROBS)
            if len(self._trees) > _KEPT_TREES:
                self._trees.popitem(last=False)
        return self._trees[codes]

    async def add(
        self, verdict: Verdict, policy: Policy, until_unsafe: tuple[int, ...], call: Call
    ) -> Verdict:
        """The unsafe verdict with codes, where it has none, and with scores.

        `until_unsafe`: all ids up to the one that says `unsafe`. Without a score, without that place, and
        when the call fails or is out of time, it comes back as it is: unsafe whatever its categories are.
        """
        tree = self.tree(policy)
        if tree is None or verdict.score is None or not until_unsafe:
            return verdict
        if not tree.wanted:  # a policy of one category
            weights: dict[str, float] | None = tree.written((), ())
            codes = tuple(tree.root.codes())
        else:
            try:
                completion = await call(until_unsafe + tree.lead, tree.wanted)
            except (EngineFailed, EngineTimeout):
                return verdict
            weights = tree.written(completion.token_ids, completion.verdict_logprobs)
            codes = self._codes(tree, completion)
        codes = verdict.codes or codes
        scores = {} if weights is None else category_scores(verdict.score, weights, codes)
        return msgspec.structs.replace(verdict, codes=codes, category_scores=scores)

    def _codes(self, tree: CodeTree, completion: Completion) -> tuple[str, ...]:
        """The codes that were written; none where they do not follow the grammar of answers."""
        renderer, every = self._renderer, tree.root.codes()
        behind = (*renderer.fast_suffix, renderer.verdict_tokens.unsafe, *tree.lead)
        answer = renderer.profile.read(renderer.decode(behind + completion.token_ids), every)
        # Half an answer may read like a whole one: C1 of C10.
        if completion.finish_reason == "length" or isinstance(answer, Unparseable):
            return ()
        return answer.codes


def category_scores(score: float, weights: Mapping[str, float], named: Sequence[str]) -> dict[str, float]:
    """The score of each category, in the order of `weights`: p(unsafe) times how likely its code is written.

    The likeliest has p(unsafe) itself: an unsafe message violates something, and must not pass because the
    model wavers between two names for it. What is below `LEAST_SCORE` and not named is left out.

    >>> category_scores(0.9, {"C1": 0.8, "C2": 0.3, "C3": 0.001}, ["C1"])
    {'C1': 0.9, 'C2': 0.27}
    """
    most = max(weights.values(), default=0.0)
    if not most > 0.0:
        return {}
    found = {code: score * (1.0 if weight == most else weight) for code, weight in weights.items()}
    return {code: one for code, one in found.items() if one >= LEAST_SCORE or code in named}
