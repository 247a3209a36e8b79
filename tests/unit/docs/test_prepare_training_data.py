"""The page about training data: its examples are accepted, its table knows the reasons."""

from pathlib import Path

import msgspec
import pytest
import yaml

from guard.training.data.mapping import read_mapping
from guard.training.data.settings import DataSettings
from guard.training.data.sources import read_raw_rows
from tests.unit.guard.training.data.samples import write_mapping

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/prepare-training-data.md").read_text(encoding="utf-8")
DATA = ROOT / "guard/training/data"


def block(language: str, containing: str) -> str:
    """The one code block of a language with these words in it."""
    blocks = [part.partition("```")[0] for part in PAGE.split(f"```{language}\n")[1:]]
    (found,) = (each for each in blocks if containing in each)
    return found


def test_the_row_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(block("jsonl", "chats-1").replace("\n", " "), encoding="utf-8")
    ((_, row),) = read_raw_rows(path)
    assert (row.label, row.categories, row.meta.group) == ("unsafe", ("threat",), "thread-17")


def test_the_mapping_is_accepted(tmp_path: Path) -> None:
    codes = "".join(f"  - {{code: C{n}, title: T{n}, definition: d{n}}}\n" for n in range(1, 5))
    policy = f'id: our-policy\nversion: "1"\ncategories:\n{codes}'
    text = block("yaml", "views:").replace("our-policy.yaml", "own.yaml")
    mapping = read_mapping(str(write_mapping(tmp_path, text, policy)))
    places = mapping.place("unsafe", ["mob", "phone"])
    assert not isinstance(places, str)
    assert places[0].ruling.codes == ("C1", "C2")
    assert mapping.place("unsafe", ["rude"]) == "not_in_policy"


def test_the_settings_are_accepted() -> None:
    settings = msgspec.convert(yaml.safe_load(block("yaml", "sources:")), DataSettings)
    assert len(settings.sources) == 4


def test_the_table_has_every_reason_that_the_code_gives() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.py")))
    table = PAGE.partition("| Reason |")[2]
    named = {
        word for line in table.splitlines() for word in line.split("|")[1:2] for word in word.split("`")[1::2]
    }
    assert named
    assert not [reason for reason in named if f'"{reason}"' not in code]


@pytest.mark.parametrize("folder", ["mappings", "policies"])
def test_the_shipped_files_are_where_the_page_says(folder: str) -> None:
    assert f"`guard/training/data/{folder}/`" in PAGE
    assert list((DATA / folder).glob("*.yaml"))


def test_the_page_counts_the_mappings() -> None:
    assert f"one mapping for each of {len(list((DATA / 'mappings').glob('*.yaml')))} public sources" in PAGE
