"""Groups of rows that belong together, and splits that no group straddles."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from guard.prompt import Turn
from guard.training.data.drafts import Draft, Drops, chance, without
from guard.training.data.mapping import GroupKey
from guard.training.data.settings import Split


def plain_text(turns: Sequence[Turn]) -> str:
    """The texts as they are compared: one line, small letters, characters of one form."""
    text = unicodedata.normalize("NFKC", "\n".join(turn.text for turn in turns))
    return " ".join(text.casefold().split())


def group_of(turns: Sequence[Turn], key: GroupKey) -> str:
    """Name of the group, the same in every source: 16 hex digits of what its rows share."""
    shared = turns if key == "conversation" or len(turns) == 1 else turns[:-1]
    return hashlib.sha256(plain_text(shared).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def named_group(source: str, name: str) -> str:
    """Name of a group that the source itself has named; not that of another source's group."""
    return f"{source}:{name}"


def drawn_split(group: str, dev_share: float, seed: int) -> Split:
    """The split of a group whose rows name none."""
    return "dev" if chance("split", seed, group) < dev_share else "train"


def one_split_per_group(drafts: Sequence[Draft], drops: Drops) -> list[Draft]:
    """The drafts, without those in `train` whose group also stands in `dev` (`group_in_dev`)."""
    in_dev = {draft.row.group for draft in drafts if draft.row.split == "dev"}
    gone = {draft.row.id for draft in drafts if draft.row.split == "train" and draft.row.group in in_dev}
    return without(drafts, gone, drops, "group_in_dev")
