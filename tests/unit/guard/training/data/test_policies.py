from pathlib import Path

import msgspec
import pytest

from guard.training.data.errors import TrainingDataError
from guard.training.data.policies import (
    SHIPPED_POLICIES,
    near,
    overlaps,
    own_wordings,
    policy_of,
    read_policy,
    shipped_policies,
    wordings,
)
from schemas.policy import judgement_hash
from tests.unit.guard.training.data.samples import policy
from workers.policies import PACKS
from workers.policy_files import read_policy_file


def codes(name: str) -> set[str]:
    return {category.code for category in read_policy(SHIPPED_POLICIES / f"{name}.yaml").categories}


def test_rsafe_18_reads_as_the_workers_pack() -> None:
    (pack,) = read_policy_file(PACKS / "rsafe-18.yaml")
    assert judgement_hash(read_policy(SHIPPED_POLICIES / "rsafe-18.yaml")) == judgement_hash(pack.policy)


@pytest.mark.parametrize("name", shipped_policies())
def test_a_shipped_policy_is_named_like_its_file_and_the_worker_accepts_it(name: str) -> None:
    path = SHIPPED_POLICIES / f"{name}.yaml"
    (found,) = read_policy_file(path)
    assert found.policy.id == name == read_policy(path).id


def test_overlaps_and_wordings_are_of_categories_that_exist() -> None:
    for name, by_code in overlaps().items():
        assert codes(name) >= set(by_code).union(*by_code.values())
        assert not [code for code, others in by_code.items() if code in others]
    for name, words in wordings().items():
        assert codes(name).issuperset(words)


def test_shipped_words_are_for_categories_that_read_as_the_shipped_ones() -> None:
    shipped = read_policy(SHIPPED_POLICIES / "rsafe-18.yaml")
    assert own_wordings(shipped) == wordings()["rsafe-18"]
    first, second, third, *rest = shipped.categories
    changed = msgspec.structs.replace(
        shipped,
        categories=(
            msgspec.structs.replace(first, title="Gardening"),
            msgspec.structs.replace(second, definition="rude words"),
            msgspec.structs.replace(third, exceptions=()),
            *rest,
        ),
    )
    gone = {first.code, second.code, third.code}
    assert own_wordings(changed).keys() == wordings()["rsafe-18"].keys() - gone
    assert own_wordings(msgspec.structs.replace(shipped, id="somebody-elses")) == {}


def test_all_categories_of_a_policy_without_overlaps_are_near() -> None:
    assert near(policy("A1", "A2", "A3"), {"A2"}) == {"A1", "A2", "A3"}
    assert near(policy("U7", "U11", name="rsafe-18"), {"U7"}) == {"U7", "U11"}


def test_overlaps_count_for_categories_that_read_as_the_shipped_ones() -> None:
    shipped = read_policy(SHIPPED_POLICIES / "rsafe-18.yaml")
    assert near(shipped, {"U11"}) == {"U3", "U11"}
    assert near(shipped, ()) == frozenset()
    *rest, last = shipped.categories
    own = msgspec.structs.replace(shipped, categories=(*rest, msgspec.structs.replace(last, title="Ours")))
    assert near(own, {"U11"}) == {"U3", "U11", "U18"}
    assert near(own, {"U18"}) == {category.code for category in own.categories}
    assert near(policy_of(SHIPPED_POLICIES / "rsafe-18.yaml", ("U1", "U11")), {"U11"}) == {"U11"}


def test_where_one_class_was_chosen_nothing_is_near() -> None:
    assert near(read_policy(SHIPPED_POLICIES / "sexism.yaml"), {"S3"}) == {"S3"}


def test_every_category_of_rsafe_18_overlaps_with_some_and_not_with_all() -> None:
    for code in codes("rsafe-18"):
        assert 1 <= len(overlaps()["rsafe-18"][code]) < 17


def test_a_part_of_a_policy_is_one_object_and_keeps_its_words() -> None:
    path = SHIPPED_POLICIES / "rsafe-18.yaml"
    part = policy_of(path, ("U7",))
    assert part is policy_of(path, ("U7",))
    assert [category.code for category in part.categories] == ["U7"]
    assert part.categories[0] in read_policy(path).categories


def test_a_category_that_is_not_there_is_named() -> None:
    with pytest.raises(TrainingDataError, match=r"rsafe-18.yaml: categories: expected 'U19' among them"):
        policy_of(SHIPPED_POLICIES / "rsafe-18.yaml", ("U19",))


def test_a_policy_without_its_examples(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text((PACKS / "rsafe-18.yaml").read_text())
    assert read_policy(path).examples == ()
