"""Sources → drafts: each row under the policy of its mapping's first view, in its group and split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from guard.prompt import Turn, as_read
from guard.training.data.drafts import Draft, Drops, chance
from guard.training.data.errors import RowError, TrainingDataError
from guard.training.data.generated import generated
from guard.training.data.groups import drawn_split, group_of, named_group
from guard.training.data.mapping import GroupKey, Placed, read_mapping
from guard.training.data.reviewed import ReviewedPolicies
from guard.training.data.rows import LabelledRow
from guard.training.data.settings import DataSettings, GeneratorSource, JsonlSource, ReviewsSource, Source
from guard.training.data.sources import RawRow, read_raw_rows, source_files, source_name


def collect(settings: DataSettings, drops: Drops) -> list[Draft]:
    """All rows of all sources that their mappings support, in the order of the settings.

    Raises `TrainingDataError` for a file, a row or a mapping that is not what it should be.
    """
    drafts: list[Draft] = []
    found: dict[str, str] = {}
    for source in settings.sources:
        for draft in _of_source(source, settings.seed, drops):
            if draft.row.id in found:
                where = f"{found[draft.row.id]} and in {draft.row.source}"
                raise TrainingDataError(f"row {draft.row.id}: the id stands in {where}; expected once")
            found[draft.row.id] = draft.row.source
            drafts.append(draft)
    return drafts


def _of_source(source: Source, seed: int, drops: Drops) -> Iterator[Draft]:
    match source:
        case GeneratorSource():
            yield from generated(source, seed)
        case JsonlSource():
            for file in _chosen_files(source):
                yield from _most(_mapped(source, file, seed, drops), source.most_rows, seed, drops)
        case ReviewsSource():
            yield from _most(_reviewed(source, seed, drops), source.most_rows, seed, drops)


def _chosen_files(source: JsonlSource) -> list[Path]:
    """The files that the settings want. Raises `TrainingDataError` for a name that is not there."""
    files = {source_name(file): file for file in source_files(Path(source.path))}
    for field in ("only", "leave_out"):
        for name in getattr(source, field):
            if name not in files:
                raise TrainingDataError(f"{source.path}: {field}: there is no file {name!r} to choose")
    return [
        file
        for name, file in files.items()
        if (name in source.only or not source.only) and name not in source.leave_out
    ]


def _mapped(source: JsonlSource, file: Path, seed: int, drops: Drops) -> Iterator[Draft]:
    mapping = read_mapping(source.mapping or source_name(file))
    for _, row in read_raw_rows(file):
        places = mapping.place(row.label, row.categories)
        if draft := _draft(source, row, places, mapping.group, seed, drops):
            yield draft


def _reviewed(source: ReviewsSource, seed: int, drops: Drops) -> Iterator[Draft]:
    policies = ReviewedPolicies(Path(source.policies))
    for row in _latest_reviews(source, drops):
        row = _named(row, source.name)
        if draft := _draft(source, row, policies.place(row), "prompt", seed, drops):
            yield draft


def _latest_reviews(source: ReviewsSource, drops: Drops) -> Sequence[RawRow]:
    """Of each id the row that was reviewed last, in order of first sight; the others are `superseded`.

    Exports overlap: each has all reviews whose events are still there. Rows of one moment are one review in
    two exports, and the later file's counts. Raises `RowError` where an id stands in two files and a row does
    not tell its time.
    """
    latest: dict[str, RawRow] = {}
    for file in source_files(Path(source.path)):
        for number, row in read_raw_rows(file):
            before = latest.setdefault(row.id, row)
            if before is row:
                continue
            drops.add(source.name, "superseded")
            if before.meta.reviewed_at is None or row.meta.reviewed_at is None:
                expected = "expected the time of the review in all files, since the id stands in several"
                raise RowError(file, number, "meta.reviewed_at", expected)
            if row.meta.reviewed_at >= before.meta.reviewed_at:
                latest[row.id] = row
    return list(latest.values())


def _draft(
    source: JsonlSource | ReviewsSource,
    row: RawRow,
    places: list[Placed] | str,
    key: GroupKey,
    seed: int,
    drops: Drops,
) -> Draft | None:
    """The row under its first view; None, and counted, where it cannot be used."""
    if isinstance(places, str):
        drops.add(row.source, places)
        return None
    turns = as_read(Turn(role=message.role, text=message.content) for message in row.messages)
    if not turns[-1].text.strip():
        drops.add(row.source, "empty_text")
        return None
    group = named_group(row.source, row.meta.group) if row.meta.group else group_of(turns, key)
    split = row.split or drawn_split(group, source.dev_share, seed)
    if split not in source.splits:
        drops.add(row.source, "split_not_taken")
        return None
    first, *others = places
    assert first.ruling.label is not None
    labelled = LabelledRow(
        id=row.id,
        source=row.source,
        split=split,
        group=group,
        policy=first.policy,
        turns=turns,
        label=first.ruling.label,
        codes=first.ruling.codes,
        language=row.meta.lang,
        licence=row.licence,
        rationale=row.meta.rationale,
    )
    return Draft(labelled, first.ruling.touched, tuple(others), source.perturb)


def _named(row: RawRow, source: str) -> RawRow:
    return RawRow(**{name: getattr(row, name) for name in RawRow.__struct_fields__} | {"source": source})


def _most(drafts: Iterator[Draft], most: int | None, seed: int, drops: Drops) -> Sequence[Draft]:
    """At most so many rows of each source and split, drawn by their ids; the order stays."""
    everyone = list(drafts)
    if most is None:
        return everyone
    by_place: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for draft in everyone:
        by_place[draft.row.source, draft.row.split].append(draft.row.id)
    chosen: set[str] = set()
    for (source, _), ids in by_place.items():
        drawn = sorted(ids, key=lambda name: (chance("most", seed, name), name))[:most]
        drops.add(source, "over_most_rows", len(ids) - len(drawn))
        chosen.update(drawn)
    return [draft for draft in everyone if draft.row.id in chosen]
