from __future__ import annotations

import msgspec
import pytest

from guard.answer import Answer
from guard.checkpoint import Manifest, _profile_of, open_checkpoint
from guard.errors import CheckpointError, UnsupportedError
from guard.profiles.catalogue import DEFAULT, PROFILES, find_profile
from schemas.identifiers import Mode
from schemas.policy import Category, Crosswalk, judgement_hash, policy_hash
from tests.profile_folders import FAMILIES
from tests.unit.guard.profiles.worlds import POLICY, THINKING, checkpoint

UNMAPPED = msgspec.structs.replace(
    POLICY, categories=(*POLICY.categories, Category(code="C9", title="Spam", definition="advertising"))
)


def test_every_profile_has_a_folder_in_the_tests() -> None:
    assert FAMILIES.keys() == PROFILES.keys()


def test_an_unknown_profile_is_refused_with_all_names() -> None:
    with pytest.raises(UnsupportedError, match="no profile 'mine'; expected one of rsafe-boxed-1, instruct"):
        find_profile("mine")
    assert find_profile("") is DEFAULT


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_judge_a_mapped_policy_in_its_modes(name: str) -> None:
    profile = PROFILES[name]
    for policy in (POLICY, THINKING):
        assert profile.refusals(policy) == [] or policy.mode not in profile.modes


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if profile.taxonomy])
def test_a_category_without_a_mapping_is_refused_by_name(name: str) -> None:
    (sentence,) = [s for s in PROFILES[name].refusals(UNMAPPED) if "mode" not in s]
    assert sentence.startswith(f"category C9: crosswalk.{PROFILES[name].taxonomy.name}: absent")  # type: ignore[union-attr]
    assert name in sentence


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if not profile.taxonomy])
def test_a_guard_that_reads_the_policy_needs_no_mapping(name: str) -> None:
    assert PROFILES[name].refusals(UNMAPPED) == []
    assert PROFILES[name].mapping(UNMAPPED) == ""


def test_a_code_that_the_guard_does_not_have_is_refused() -> None:
    odd = msgspec.structs.replace(POLICY.categories[0], crosswalk=Crosswalk(mlcommons=("S15",)))
    policy = msgspec.structs.replace(POLICY, categories=(odd,))
    (sentence,) = PROFILES["llama-guard-3"].refusals(policy)
    assert sentence.startswith("category C1: crosswalk.mlcommons: the profile 'llama-guard-3' has no 'S15'")


def test_a_category_that_is_only_looked_for_in_messages_of_users_is_refused_for_others() -> None:
    only = msgspec.structs.replace(POLICY.categories[0], crosswalk=Crosswalk(qwen3guard=("Jailbreak",)))
    policy = msgspec.structs.replace(POLICY, categories=(only,))
    (sentence,) = PROFILES["qwen3guard-gen"].refusals(policy)
    assert "does not look for Jailbreak in messages of the role assistant" in sentence
    of_users = msgspec.structs.replace(policy, surfaces=("user",))
    assert PROFILES["qwen3guard-gen"].refusals(of_users) == []


@pytest.mark.parametrize(("mode", "why"), [("think", ""), ("adaptive", ", which `adaptive` needs")])
def test_a_mode_that_the_guard_lacks_is_refused_with_what_is_possible(mode: Mode, why: str) -> None:
    policy = msgspec.structs.replace(POLICY, mode=mode)
    (sentence,) = PROFILES["shieldgemma"].refusals(policy)
    assert sentence == f"mode: a guard of the profile 'shieldgemma' has no `think`{why}; expected `fast`"


def test_an_unsafe_of_unmapped_codes_alone_is_safe_and_says_so() -> None:
    answer = PROFILES["qwen3guard-gen"].answer("Safety: Unsafe\nCategories: Copyright Violation", POLICY)
    note = "The guard names Copyright Violation, which is no category of this policy."
    assert answer == Answer("safe", (), note)


def test_an_unsafe_of_mapped_and_unmapped_codes_is_unsafe() -> None:
    answer = PROFILES["qwen3guard-gen"].answer("Safety: Unsafe\nCategories: Copyright Violation, PII", POLICY)
    assert answer == Answer("unsafe", ("C2",), "")


def test_another_crosswalk_is_another_mapping() -> None:
    first, second = POLICY.categories
    other = msgspec.structs.replace(
        POLICY, categories=(msgspec.structs.replace(first, crosswalk=second.crosswalk), second)
    )
    profile = PROFILES["llama-guard-3"]
    assert judgement_hash(other) == judgement_hash(POLICY)
    assert profile.mapping(other) != profile.mapping(POLICY) != ""


def test_the_hash_of_a_policy_without_the_newer_taxonomy_is_what_it_was() -> None:
    policy = msgspec.structs.replace(
        POLICY,
        categories=(Category(code="C1", title="t", definition="d", crosswalk=Crosswalk(openai=("x",))),),
    )
    with_it = msgspec.structs.replace(
        policy,
        categories=(
            Category(
                code="C1", title="t", definition="d", crosswalk=Crosswalk(openai=("x",), qwen3guard=("PII",))
            ),
        ),
    )
    assert policy_hash(policy) == "5103d554760e62efd0c6c3244cb86db20f05b0e9660bfdef352a24e7f46c4e8c"
    assert policy_hash(with_it) != policy_hash(policy)
    assert judgement_hash(with_it) == judgement_hash(policy)


def test_the_profile_enters_the_weights_digest_and_the_default_does_not() -> None:
    folder = str(checkpoint("instruct").path)
    digests = {
        name: open_checkpoint(folder, profile=name, weights=False).weights_digest
        for name in ("", "rsafe-boxed-1", "instruct", "shieldgemma", "llama-guard-3", "llama-guard-3-policy")
    }
    assert digests[""] == digests["rsafe-boxed-1"]
    assert len(set(digests.values())) == 5


def test_a_manifest_that_names_another_profile_than_the_setting_is_refused() -> None:
    manifest = Manifest(
        format="f",
        name="n",
        base="b",
        data_hash="",
        template_version="",
        command="",
        files={},
        profile="instruct",
    )
    assert _profile_of(checkpoint("instruct").path, manifest, "").name == "instruct"
    with pytest.raises(CheckpointError, match="profile is 'instruct'; expected 'shieldgemma'"):
        _profile_of(checkpoint("instruct").path, manifest, "shieldgemma")


def test_the_release_needs_a_template_of_its_own() -> None:
    folder = str(checkpoint("instruct").path)
    with pytest.raises(CheckpointError, match="takes its prompt from a file; expected a template"):
        open_checkpoint(folder, profile="rsafe-release", weights=False)
