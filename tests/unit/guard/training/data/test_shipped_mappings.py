"""The shipped mappings against the data sets that they are for, where these are at hand."""

import os
from collections import Counter
from pathlib import Path

import pytest

from guard.training.data.mapping import read_mapping, shipped_mappings
from guard.training.data.sources import read_raw_rows, source_files, source_name

# Of rows that the mappings leave out on purpose; any other reason means that a table has a gap.
ON_PURPOSE = {"definition_differs", "mild_by_design", "not_in_policy"}


@pytest.fixture(scope="module")
def folder() -> Path:
    name = os.environ.get("RSAFE_TEST_DATA")
    if not name:
        pytest.skip("RSAFE_TEST_DATA names no folder with chat data")
    return Path(name)


def test_every_row_is_placed_or_left_out_on_purpose(folder: Path) -> None:
    unexpected: Counter[tuple[str, str]] = Counter()
    for file in source_files(folder):
        mapping = read_mapping(source_name(file))
        for _, row in read_raw_rows(file):
            places = mapping.place(row.label, row.categories)
            if isinstance(places, str) and places not in ON_PURPOSE:
                unexpected[row.source, places] += 1
    assert not unexpected


def test_every_mapping_has_its_file(folder: Path) -> None:
    assert {source_name(file) for file in source_files(folder)} == set(shipped_mappings())
