from pathlib import Path
from typing import Literal

import pytest

from guard.training.data.errors import TrainingDataError
from guard.training.data.mapping import Mapping, Placed, read_mapping, shipped_mappings
from tests.unit.guard.training.data.samples import write_mapping

TABLES = """
note: of the tests
views:
  - name: first
    policy: rsafe-18
    unsafe:
      slurs: U7
      threats: U1 U7
      terror: U2 | U3
      other: unsafe
      vague: drop too_vague
      method: ignore
      mild: safe
    safe: {odd: drop definition_differs, "*": safe}
  - name: second
    policy: hate
    unsafe: {mild: H1}
    safe: {insult: H1}
"""


@pytest.fixture(scope="module")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> Mapping:
    path = tmp_path_factory.mktemp("mapping") / "tables.yaml"
    path.write_text(TABLES)
    return read_mapping(str(path))


def first(places: list[Placed] | str) -> tuple[str | None, tuple[str, ...], frozenset[str] | None]:
    assert not isinstance(places, str)
    ruling = places[0].ruling
    return ruling.label, ruling.codes, ruling.touched


@pytest.mark.parametrize(
    ("codes", "label", "violated", "touched"),
    [
        (["slurs"], "unsafe", ("U7",), {"U7"}),
        (["threats"], "unsafe", ("U1", "U7"), {"U1", "U7"}),
        (["slurs", "threats"], "unsafe", ("U7", "U1"), {"U1", "U7"}),
        (["terror"], "unsafe", (), {"U2", "U3"}),
        (["terror", "slurs"], "unsafe", (), {"U2", "U3", "U7"}),
        (["other", "slurs"], "unsafe", (), None),
        (["vague", "slurs", "method"], "unsafe", ("U7",), {"U7"}),
        (["mild", "slurs"], "unsafe", ("U7",), {"U7"}),
        (["mild"], "safe", (), set()),
    ],
)
def test_codes_of_an_unsafe_row_decide_together(
    mapping: Mapping, codes: list[str], label: str, violated: tuple[str, ...], touched: set[str] | None
) -> None:
    assert first(mapping.place("unsafe", codes)) == (label, violated, touched)


@pytest.mark.parametrize(
    ("label", "codes", "reason"),
    [
        ("unsafe", ["vague"], "too_vague"),
        ("unsafe", ["vague", "mild"], None),
        ("unsafe", ["method"], "no_code_that_decides"),
        ("unsafe", [], "no_code_that_decides"),
        ("unsafe", ["*"], "no_code_that_decides"),
        ("unsafe", ["unheard"], "code_not_mapped"),
        ("safe", ["odd"], "definition_differs"),
    ],
)
def test_a_row_that_no_view_supports_is_told_why(
    mapping: Mapping, label: Literal["safe", "unsafe"], codes: list[str], reason: str | None
) -> None:
    places = mapping.place(label, codes)
    if reason is None:  # the second view supports it
        assert [p.view for p in places if isinstance(p, Placed)] == ["second"]
    else:
        assert places == reason


def test_topics_of_safe_rows_are_ignored(mapping: Mapping) -> None:
    assert first(mapping.place("safe", ["anything"])) == ("safe", (), frozenset())


def test_a_later_view_may_give_the_other_label(mapping: Mapping) -> None:
    places = mapping.place("safe", ["insult"])
    assert [(p.view, p.ruling.label, p.policy.id) for p in places if isinstance(p, Placed)] == [
        ("first", "safe", "rsafe-18"),
        ("second", "unsafe", "hate"),
    ]


@pytest.mark.parametrize(
    ("how", "codes", "expected"),
    [
        ("same", ["C2"], ("C2",)),
        ("same", ["C9"], "code_not_in_policy"),
        ("ignore", ["C9"], "no_code_that_decides"),
        ("drop", ["C2"], "code_not_mapped"),
    ],
)
def test_other_codes_are_taken_as_told(
    tmp_path: Path, how: str, codes: list[str], expected: tuple[str, ...] | str
) -> None:
    text = f"note: n\nviews:\n  - {{name: own, policy: own.yaml, unsafe: {{bad: C1}}, other_codes: {how}}}\n"
    places = read_mapping(str(write_mapping(tmp_path, text))).place("unsafe", codes)
    assert (places if isinstance(places, str) else places[0].ruling.codes) == expected


def test_a_label_without_a_table_is_not_supported(tmp_path: Path) -> None:
    text = "note: n\nviews:\n  - {name: own, policy: own.yaml, unsafe: {bad: C1}}\n"
    assert read_mapping(str(write_mapping(tmp_path, text))).place("safe", []) == "label_not_supported"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("U7", r"views\[0\].unsafe.bad: the policy has no category 'U7'; it has C1, C2"),
        ("C1 | C1 C2", r"views\[0\].unsafe.bad: expected safe, unsafe, ignore"),
        ("drop Because It Is", r"views\[0\].unsafe.bad: "),
        ("''", r"views\[0\].unsafe.bad: expected safe, unsafe, ignore"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(tmp_path: Path, rule: str, sentence: str) -> None:
    text = f"note: n\nviews:\n  - {{name: own, policy: own.yaml, unsafe: {{bad: {rule}}}}}\n"
    with pytest.raises(TrainingDataError, match=sentence):
        read_mapping(str(write_mapping(tmp_path, text)))


def test_views_have_names_of_their_own(tmp_path: Path) -> None:
    view = "  - {name: own, policy: own.yaml}\n"
    with pytest.raises(TrainingDataError, match="views: a name stands twice"):
        read_mapping(str(write_mapping(tmp_path, f"note: n\nviews:\n{view}{view}")))


def test_unknown_names_are_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="no mapping 'unheard' is shipped"):
        read_mapping("unheard")
    text = "note: n\nviews:\n  - {name: own, policy: unheard}\n"
    with pytest.raises(
        TrainingDataError, match=r"views\[0\].policy: expected a file .* or one of .*rsafe-18"
    ):
        read_mapping(str(write_mapping(tmp_path, text)))


@pytest.mark.parametrize("name", shipped_mappings())
def test_a_shipped_mapping_can_be_read_and_supports_a_label(name: str) -> None:
    mapping = read_mapping(name)
    text = mapping.file.read_text(encoding="utf-8")
    supported = [label for label in ("safe", "unsafe") if f"{label}:" in text]
    assert supported
    assert mapping.group in ("prompt", "conversation")
