"""Which policies are loaded, and which of them an event is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from guard.training.generator.lexicon import CONCEPTS, EXCEPTIONS
from schemas.policy import Policy, judgement_hash, policy_hash
from workers.errors import SettingsError
from workers.policies import PACKS, NoPolicy, PolicySet, find_policies, load_policies

EVERYBODY, ACME = "everybody", "acme-rules"


def _document(policy_id: str, **fields: Any) -> str:
    content = {
        "id": policy_id,
        "version": "1",
        "categories": [{"code": "C1", "title": "Spam", "definition": "bulk messages"}],
        **fields,
    }
    return msgspec.yaml.encode(content).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(_document(EVERYBODY), encoding="utf-8")
    (tmp_path / "b.yml").write_text(_document(ACME, tenant="acme"), encoding="utf-8")
    return tmp_path


def test_the_events_policy_comes_before_the_tenants_and_that_before_the_default(folder: Path) -> None:
    policies = load_policies(str(folder), EVERYBODY)
    assert policies.choose("acme", EVERYBODY) is policies.by_id[EVERYBODY]
    assert policies.choose("acme", None) is policies.by_id[ACME]
    assert policies.choose("acme", ACME) is policies.by_id[ACME]
    assert policies.choose("other", None) is policies.by_id[EVERYBODY]


def test_an_unknown_policy_is_a_rejection(folder: Path) -> None:
    chosen = load_policies(str(folder), EVERYBODY).choose("acme", "nobody")
    assert isinstance(chosen, NoPolicy)
    assert (chosen.reason, chosen.field) == ("unknown_policy", "policy")
    assert "nobody" not in chosen.sentence


def test_an_unknown_policy_counts_as_none_when_the_setting_says_so(folder: Path) -> None:
    policies = load_policies(str(folder), EVERYBODY, "default")
    assert policies.choose("acme", "nobody") is policies.by_id[ACME]
    assert policies.choose("other", "nobody") is policies.default


@pytest.mark.parametrize("unknown", ["dead_letter", "default"])
def test_a_policy_of_another_tenant_is_a_rejection(folder: Path, unknown: Any) -> None:
    chosen = load_policies(str(folder), EVERYBODY, unknown).choose("other", ACME)
    assert isinstance(chosen, NoPolicy)
    assert chosen.reason == "unknown_policy"
    assert "acme" not in chosen.sentence


def test_without_a_default_a_tenant_without_a_policy_is_a_rejection(folder: Path) -> None:
    chosen = load_policies(str(folder), "").choose("other", None)
    assert isinstance(chosen, NoPolicy)
    assert (chosen.reason, chosen.field) == ("no_policy", "tenant")


def test_a_set_cannot_be_changed(folder: Path) -> None:
    policies = load_policies(str(folder), EVERYBODY)
    assert isinstance(policies.by_id, MappingProxyType)
    assert isinstance(policies.by_tenant, MappingProxyType)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policies.default = None  # type: ignore[misc]


def test_the_fingerprint_follows_the_rules_and_not_the_files(folder: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return load_policies(str(folder), EVERYBODY).fingerprint

    first = fingerprint()
    (folder / "a.yaml").rename(folder / "z.yaml")
    assert fingerprint() == first
    (folder / "z.yaml").write_text(_document(EVERYBODY, threshold=0.1), encoding="utf-8")
    assert fingerprint() != first


def test_a_single_file_is_loaded(folder: Path) -> None:
    assert list(load_policies(str(folder / "a.yaml"), "").by_id) == [EVERYBODY]


def test_hidden_and_foreign_files_are_left_alone(folder: Path) -> None:
    (folder / ".a.yaml.swp").write_bytes(b"\xff")
    (folder / ".hidden.yaml").write_text("broken: [", encoding="utf-8")
    (folder / "notes.txt").write_text("not a policy", encoding="utf-8")
    (folder / "..data").mkdir()
    (folder / "below").mkdir()
    (folder / "below" / "c.yaml").write_text("broken: [", encoding="utf-8")
    assert set(load_policies(str(folder), "").by_id) == {EVERYBODY, ACME}


def test_a_file_reached_by_a_link_is_loaded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    mounted = tmp_path_factory.mktemp("mounted")
    (mounted / "a.yaml").symlink_to(folder / "a.yaml")
    assert list(load_policies(str(mounted), "").by_id) == [EVERYBODY]


def test_one_id_in_two_files_names_both(folder: Path) -> None:
    (folder / "c.yaml").write_text("\n\n" + _document(EVERYBODY), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_policies(str(folder), "")
    assert str(caught.value) == f"{folder}/c.yaml:3: id: 'everybody' stands also in {folder}/a.yaml:1"


def test_two_policies_of_one_tenant_are_refused_naming_both(folder: Path) -> None:
    (folder / "c.yaml").write_text(_document("more-rules", tenant="acme"), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_policies(str(folder), "")
    assert f"{folder}/c.yaml:" in str(caught.value)
    assert f"tenant: 'acme' has a policy already, in {folder}/b.yml:" in str(caught.value)


def test_the_problems_of_all_files_are_told_together(folder: Path) -> None:
    (folder / "c.yaml").write_text("- 1\n", encoding="utf-8")
    (folder / "d.yaml").write_text(_document("d", mode="slow"), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_policies(str(folder), "")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{folder}/c.yaml:1: ")
    assert second.startswith(f"{folder}/d.yaml:")
    assert "mode: expected one of fast, think, adaptive" in second


def test_an_absent_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"RSAFE_POLICIES__PATH: there is no file or folder .*/absent",
    ):
        load_policies(str(tmp_path / "absent"), "")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"RSAFE_POLICIES__PATH: the folder .* holds no \.yaml or \.yml file",
    ):
        load_policies(str(tmp_path), "")


def test_a_default_that_is_not_loaded_is_named_with_what_is(folder: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"RSAFE_POLICIES__DEFAULT: no policy 'x' is loaded; loaded are acme-rules, ev",
    ):
        load_policies(str(folder), "x")


def test_a_tenants_policy_is_no_default(folder: Path) -> None:
    with pytest.raises(SettingsError, match="belongs to the tenant 'acme'"):
        load_policies(str(folder), ACME)


# The packs: what customers see first, and what caches and audits refer to.

# Change these together with the pack's `version`.
PACK_HASHES = {
    "community": (
        "388cfba342b7f49cd01e15e50e664aa1049f238dcf8d112d2b3240eebd3317bd",
        "cae4f65fdb01493cb0c0157119513d2e33874de9db92ad95e60e22baf8221c4a",
    ),
    "example-custom": (
        "73ec2e75b3913197e0e6fa3f008bde25daf206c05d02c2603ec0a09bd670464c",
        "45198bd8ed72a3290237e54f7205e938861784e80aa15b345a1c3ad25124a734",
    ),
    "minors": (
        "eb393499c04e26872313071dfbaaab90d47e4d0d46a1d7131c48fc9213ba1c1d",
        "3af5ecea08e3888b026deb6d3b6f4a8979c8d6c296cea335af41d0892dcfb24b",
    ),
    "rsafe-18": (
        "e960fe25d4fa3f8739491ea300e1aa81eb7aacd31a3b82db010ac01e2fa6342d",
        "e3d2e82e45e7ea9162607f3283f930a40d3ae2f2a1a0c5537b25c334ed7dbcd3",
    ),
}
PACK_POLICIES = [found.policy for found in find_policies("")]
packs = pytest.mark.parametrize("policy", PACK_POLICIES, ids=lambda policy: policy.id)


def test_the_packs_are_loaded_when_no_path_is_given() -> None:
    policies = load_policies("", "community")
    assert set(policies.by_id) == set(PACK_HASHES)
    assert policies.default is policies.by_id["community"]
    assert {path.stem for path in PACKS.iterdir()} == set(PACK_HASHES)


@packs
def test_the_hashes_of_a_pack_are_pinned(policy: Policy) -> None:
    assert (policy_hash(policy), judgement_hash(policy)) == PACK_HASHES[policy.id]


@packs
def test_a_pack_explains_itself_by_examples(policy: Policy) -> None:
    assert {example.label for example in policy.examples} == {"safe", "unsafe"}
    assert all(example.codes for example in policy.examples if example.label == "unsafe")


@packs
def test_definitions_of_a_pack_are_short_phrases(policy: Policy) -> None:
    for category in policy.categories:
        phrases = category.definition.split("; ")
        assert len(phrases) >= 2
        assert all(phrase == phrase.strip() and 0 < len(phrase) <= 120 for phrase in phrases)


def test_rsafe_18_has_every_code_of_the_paper_under_its_own_name() -> None:
    policy = next(policy for policy in PACK_POLICIES if policy.id == "rsafe-18")
    codes = [category.code for category in policy.categories]
    assert codes == [f"U{number}" for number in range(1, 19)]
    assert all(category.crosswalk.rsafe == (category.code,) for category in policy.categories)


@packs
def test_a_crosswalk_names_what_exists_elsewhere(policy: Policy) -> None:
    mlcommons = {f"S{number}" for number in range(1, 15)}
    openai = {
        *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
        *("self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors"),
        *("violence", "violence/graphic"),
    }
    for category in policy.categories:
        assert set(category.crosswalk.rsafe) <= {f"U{number}" for number in range(1, 19)}
        assert set(category.crosswalk.mlcommons) <= mlcommons
        assert set(category.crosswalk.openai) <= openai


def test_an_empty_set_chooses_nothing() -> None:
    chosen = PolicySet(by_id={}, by_tenant={}, default=None).choose("acme", None)
    assert isinstance(chosen, NoPolicy)


@packs
def test_a_pack_of_the_demo_speaks_the_words_that_the_small_checkpoint_learnt(policy: Policy) -> None:
    if policy.id == "rsafe-18":
        return
    known = {title: concept for concept in CONCEPTS.values() for title in concept.titles}
    built_in = 0
    for category in policy.categories:
        phrases = category.definition.split("; ")
        concept = known.get(category.title.casefold())
        if concept is None:  # a list of a customer's own: one word for the title, one to six words to look up
            assert category.title.isalpha()
            assert len(phrases) <= 6
            assert all(phrase.isalpha() for phrase in phrases)
            continue
        built_in += 1
        assert len(phrases) <= 3
        assert set(phrases) <= set(concept.phrases)
        assert set(category.exceptions) <= set(EXCEPTIONS)
    assert built_in <= 10
