from collections import Counter
from pathlib import Path

import msgspec
import pytest

from guard.training.data.data_card import (
    CARD,
    CARD_FOR_PEOPLE,
    DataCard,
    SplitCounts,
    card_of,
    markdown,
    write_card,
)
from guard.training.data.drafts import Drops
from tests.unit.guard.training.data.samples import row

ROWS = [
    row(1, licence="MIT", twin="s-2"),
    row(2, label="safe", codes=(), licence="MIT", twin="s-1"),
    row(3, split="dev", language="zh"),
    row(4, source="other|source", licence="CC0-1.0"),
]


def card(read: dict[str, int]) -> DataCard:
    drops = Drops()
    drops.add("s", "too_vague", 2)
    drops.add("gone", "too_vague")
    return card_of(
        ROWS,
        Counter(read),
        Counter({"s": 1}),
        drops,
        Counter({"rename": 3}),
        [10, 20, 30, 40],
        seed=9,
        data_sha256="0" * 64,
    )


READ = {"s": 4, "other|source": 1, "gone": 1}


def test_every_row_is_accounted_for() -> None:
    whole = card(READ)
    assert whole.sources["s"].train == SplitCounts(safe=1, unsafe=1, twins=2)
    assert whole.sources["s"].dev == SplitCounts(unsafe=1)
    assert whole.sources["gone"].dropped == {"too_vague": 1}
    assert (whole.rows, whole.train.unsafe, whole.languages, whole.dropped) == (
        4,
        2,
        {"en": 3, "zh": 1},
        {"too_vague": 3},
    )
    assert whole.licences == {"MIT": 2, "": 1, "CC0-1.0": 1}
    assert whole.mean_prompt_tokens == 25


def test_a_lost_row_is_noticed() -> None:
    with pytest.raises(AssertionError, match="s: rows are unaccounted for"):
        card({**READ, "s": 5})


def test_both_forms_are_written_and_show_no_text(tmp_path: Path) -> None:
    whole = card(READ)
    write_card(whole, tmp_path)
    assert msgspec.json.decode((tmp_path / CARD).read_bytes(), type=DataCard) == whole
    page = (tmp_path / CARD_FOR_PEOPLE).read_text()
    assert page == markdown(whole)
    assert "| other\\|source | 1 | 0 / 1 | 0 / 0 | 0 | 0 | CC0-1.0 |" in page
    assert "too_vague 2" in page
    assert "| not told | 1 |" in page
    assert "secret" not in page
