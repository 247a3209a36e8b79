from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from guard.training.data.build import build_dataset, data_sha256
from guard.training.data.data_card import CARD, DataCard
from guard.training.data.drafts import unmatched_twins
from guard.training.data.errors import TrainingDataError
from guard.training.data.rows import LabelledRow, read_rows
from guard.training.data.settings import DataSettings
from tests.unit.guard.training.data.samples import raw, write_lines, write_mapping

FOLDER = SHIPPED / "tiny"


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(FOLDER, template_of(FOLDER), b"x")


def built(
    folder: Path, renderer: PromptRenderer, rows: list[dict[str, Any]], **changes: Any
) -> tuple[DataCard, list[LabelledRow]]:
    write_mapping(folder)
    path = write_lines(folder / "chats.jsonl", rows)
    source = {"kind": "jsonl", "path": str(path), "mapping": str(folder / "mapping.yaml"), "dev_share": 0.3}
    whole = {"sources": [source, {"kind": "generator", "train_rows": 4}], **changes}
    card = build_dataset(msgspec.convert(whole, DataSettings), lambda _: renderer, folder / "data")
    return card, read_rows(folder / "data")


raw_rows = st.lists(
    st.tuples(
        st.sampled_from(
            ["umbrella umbrella", "station hall", "harmless words about nothing", "another sentence here"]
        ),
        st.sampled_from(["safe", "unsafe"]),
        st.sampled_from([["bad"], [], ["unheard"]]),
        st.sampled_from(["train", "dev", None]),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(drawn=raw_rows, seed=st.integers(0, 3))
def test_groups_do_not_straddle_and_twins_are_whole(
    tmp_path_factory: pytest.TempPathFactory,
    renderer: PromptRenderer,
    drawn: list[tuple[str, str, list[str], str | None]],
    seed: int,
) -> None:
    rows = [
        {k: v for k, v in raw(n, text, label=label, categories=codes, split=split).items() if v is not None}
        for n, (text, label, codes, split) in enumerate(drawn)
    ]
    card, kept = built(tmp_path_factory.mktemp("build"), renderer, rows, seed=seed)
    splits: dict[str, set[str]] = {}
    for row in kept:
        splits.setdefault(row.group, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert unmatched_twins(kept) == []
    alone = [row for row in kept if row.split == "train" and not row.twin]
    unpaired = {row.source for row in alone if row.label == "unsafe"}
    beside_pairs = sum(row.source not in unpaired for row in alone)
    assert 0 <= card.train.safe - card.train.unsafe <= beside_pairs
    assert card.rows == len(kept)
    if drawn:
        chats = card.sources["chats"]
        kept_chats = sum(row.source == "chats" for row in kept)
        assert kept_chats + sum(chats.dropped.values()) == len(drawn) + chats.made


ROWS = [
    raw(
        n,
        f"words number {n} about {'umbrellas' * (1 + n % 3)} and much else {n * 7}",
        label="unsafe" if n % 3 else "safe",
        categories=["bad"] if n % 3 else [],
    )
    for n in range(30)
]


def test_the_same_settings_give_the_same_bytes(tmp_path: Path, renderer: PromptRenderer) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, _ = built(tmp_path / "one", renderer, ROWS)
    two, _ = built(tmp_path / "two", renderer, ROWS)
    assert one == two
    assert one.data_sha256 == data_sha256(tmp_path / "two" / "data")
    (tmp_path / "three").mkdir()
    three, _ = built(tmp_path / "three", renderer, ROWS, seed=1)
    assert three.data_sha256 != one.data_sha256


def test_the_card_beside_the_rows_is_the_one_returned(tmp_path: Path, renderer: PromptRenderer) -> None:
    card, rows = built(tmp_path, renderer, ROWS)
    assert msgspec.json.decode((tmp_path / "data" / CARD).read_bytes(), type=DataCard) == card
    assert card.longest_prompt_tokens == max(len(renderer.render(row.policy, row.turns)) for row in rows)


def test_without_balance_nothing_is_drawn(tmp_path: Path, renderer: PromptRenderer) -> None:
    card, _ = built(tmp_path, renderer, ROWS, balance=False)
    assert card.dropped == {}
    assert card.sources["chats"].read == 30


def test_a_set_without_training_rows_is_refused(tmp_path: Path, renderer: PromptRenderer) -> None:
    with pytest.raises(
        TrainingDataError, match=r"no row is left to train on; dropped were .*prompt_too_long"
    ):
        built(tmp_path, renderer, ROWS, max_prompt_tokens=16)
