"""How much is kept under one key, so that its record fits into its topic (`max.message.bytes`). Pure.

What is dropped by age is in no window any more. Of what is dropped by number some may still be in one, so
`cut_ms` tells up to when decisions are missing: a level that they may have reached is not withdrawn.
"""

from __future__ import annotations

from typing import Final

from schemas.conduct import MOST_STRIKES
from workers.conduct.levels import Draft, RuleBook, kept_s

# What a record may have: the topic's `max.message.bytes` in schemas/topics.yaml, and what the producer sends.
# Usual ids and codes make 350 bytes a decision; those of a thousand bytes, and codes of 64 categories, 3,000.
MOST_BYTES: Final = 8_388_608
# Of decisions that are not kept, or have not come yet; the decision's own record has its correction as well.
MOST_OTHER_MARKS: Final = MOST_STRIKES
# Four levels for each decision. One that was dropped and is reached again is told with the same id.
MOST_RAISED: Final = 4 * MOST_STRIKES


def prune(book: RuleBook, late_ms: int, draft: Draft) -> None:
    """Drop what is too old, by the newest event time, and the oldest of what is too many."""
    oldest_ms = draft.newest_ms - late_ms - 1000 * book.longest_s
    draft.strikes = {name: kept for name, kept in draft.strikes.items() if kept.at_ms > oldest_ms}
    if len(draft.strikes) > MOST_STRIKES:
        by_time = sorted(draft.strikes.items(), key=lambda item: (item[1].at_ms, item[0]))
        draft.cut_ms = max(draft.cut_ms, by_time[-MOST_STRIKES - 1][1].at_ms)
        draft.strikes = dict(by_time[-MOST_STRIKES:])
    _prune_marks(draft, oldest_ms)
    _prune_raised(book, late_ms, draft)


def _prune_marks(draft: Draft, oldest_ms: int) -> None:
    draft.marks = {name: mark for name, mark in draft.marks.items() if mark.at_ms > oldest_ms}
    others = [(mark.at_ms, name) for name, mark in draft.marks.items() if name not in draft.strikes]
    for _, name in sorted(others)[:-MOST_OTHER_MARKS]:
        del draft.marks[name]


def _prune_raised(book: RuleBook, late_ms: int, draft: Draft) -> None:
    """Each as long as its own rule needs it: what another rule needs longer does not keep it."""

    def oldest_ms(digest: str) -> int:
        found = book.rule(digest)
        needed_s = book.longest_s if found is None else kept_s(found[1])
        return draft.newest_ms - late_ms - 1000 * needed_s

    digests = {name: name.rsplit("|", 1)[1] for name in draft.raised}
    oldest = {digest: oldest_ms(digest) for digest in set(digests.values())}
    draft.raised = {name: one for name, one in draft.raised.items() if one.start_ms > oldest[digests[name]]}
    if len(draft.raised) > MOST_RAISED:
        by_time = sorted(draft.raised.items(), key=lambda item: (item[1].start_ms, item[0]))
        draft.raised = dict(by_time[-MOST_RAISED:])
