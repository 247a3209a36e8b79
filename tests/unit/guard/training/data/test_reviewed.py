from pathlib import Path

import msgspec
import pytest

from guard.training.data.errors import TrainingDataError
from guard.training.data.reviewed import ReviewedPolicies
from guard.training.data.sources import RawRow
from schemas.policy import judgement_hash
from tests.unit.guard.training.data.samples import POLICY, policy, raw


def review(named: str | None, label: str = "safe", *codes: str, digest: str = "") -> RawRow:
    meta = {"judgement_hash": digest} | ({} if named is None else {"policy": named})
    return msgspec.convert(raw(1, "text", label=label, categories=codes, meta=meta), RawRow)


@pytest.fixture
def policies(tmp_path: Path) -> ReviewedPolicies:
    (tmp_path / "a.yaml").write_text(POLICY + "---" + POLICY.replace("id: own", "id: changed"))
    changed = POLICY.replace("id: own", "id: changed").replace("worse things", "the worst things")
    (tmp_path / "b.yml").write_text(changed)
    return ReviewedPolicies(tmp_path)


def test_the_hash_decides_before_the_id(policies: ReviewedPolicies) -> None:
    words = policies.place(review("own"))
    assert not isinstance(words, str)
    digest = judgement_hash(words[0].policy)
    named = policies.place(review("renamed", digest=digest))
    assert not isinstance(named, str)
    assert named[0].policy is words[0].policy
    other = judgement_hash(policy("Z1"))
    assert policies.place(review("own", digest=other)) == "policy_not_given"


def test_what_a_review_violates_is_what_it_names(policies: ReviewedPolicies) -> None:
    for codes, expected in (((), ((), None)), (("C2", "C1", "C2"), (("C2", "C1"), frozenset({"C1", "C2"})))):
        places = policies.place(review("own", "unsafe", *codes))
        assert not isinstance(places, str)
        assert (places[0].ruling.codes, places[0].ruling.touched) == expected


@pytest.mark.parametrize(
    ("named", "label", "codes", "reason"),
    [
        (None, "safe", (), "policy_not_told"),
        ("unheard", "safe", (), "policy_not_given"),
        ("own", "unsafe", ("C9",), "code_not_in_policy"),
    ],
)
def test_a_review_that_cannot_be_used_is_told_why(
    policies: ReviewedPolicies, named: str | None, label: str, codes: tuple[str, ...], reason: str
) -> None:
    assert policies.place(review(named, label, *codes)) == reason


def test_two_ids_with_the_same_words_are_both_known(tmp_path: Path) -> None:
    for name, ids in (("a", ("own", "other")), ("b", ("other",))):
        text = "---".join(POLICY.replace("id: own", f"id: {one}") for one in ids)
        (tmp_path / f"{name}.yaml").write_text(text)
    policies = ReviewedPolicies(tmp_path)
    for named in ("own", "other"):
        places = policies.place(review(named))
        assert not isinstance(places, str)
        assert places[0].policy.id == named


def test_an_id_of_several_versions_needs_the_hash(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY + "---" + POLICY.replace("worse things", "the worst things"))
    policies = ReviewedPolicies(tmp_path)
    assert policies.place(review("own")) == "policy_of_several_versions"


def test_no_policies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="expected at least one policy"):
        ReviewedPolicies(tmp_path)
    with pytest.raises(TrainingDataError, match="cannot be read"):
        ReviewedPolicies(tmp_path / "absent.yaml")
