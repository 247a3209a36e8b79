"""YAML → policies: every problem names the file, the line and the field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.policy import Band
from workers.policy_files import MAX_FILE_BYTES, PolicyFileError, read_policy_file

GOOD = """\
id: house-rules
version: "1"
categories:
  - code: C1
    title: Spam
    definition: bulk messages; unwanted ads
"""
SECOND = "  - {code: C2, title: Ads, definition: ads}\n"


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "rules.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def _problem(folder: Path, text: str | bytes) -> str:
    path = _write(folder, text)
    with pytest.raises(PolicyFileError) as caught:
        read_policy_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


def test_a_file_holds_one_policy(tmp_path: Path) -> None:
    (found,) = read_policy_file(_write(tmp_path, GOOD))
    assert found.policy.id == "house-rules"
    assert found.line == 1
    assert found.lines == {"id": 1, "version": 2, "categories": 3}


def test_a_file_holds_several_documents_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    text = "---\n" + GOOD + "---\n---\n" + GOOD.replace("house-rules", "other")
    assert [found.policy.id for found in read_policy_file(_write(tmp_path, text))] == ["house-rules", "other"]


def test_a_byte_order_mark_and_merged_aliases_are_read(tmp_path: Path) -> None:
    text = (
        "\ufeff" + GOOD + "    <<: &defaults {action: flag}\n" + SECOND.replace("ads}", "ads, <<: *defaults}")
    )
    (found,) = read_policy_file(_write(tmp_path, text))
    assert [category.action for category in found.policy.categories] == ["flag", "flag"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace('"1"', "1.0"), "2: version: expected text, got a decimal number; put it in quotes"),
        (GOOD.replace('"1"', "2026-01-31"), "2: version: expected text, got a date; put it in quotes"),
        (GOOD.replace('"1"', "2026-99-99"), "2: version: neither text nor a number; put it in quotes"),
        (GOOD.replace("house-rules", "no"), "1: id: expected text, got yes or no; put it in quotes"),
        (GOOD.replace("house-rules", "7"), "1: id: expected text, got a number; put it in quotes"),
        (GOOD.replace("house-rules", ""), "1: id: expected text, got nothing"),
        (GOOD.replace("house-rules", '""'), "1: id: expected text of at least 1 character"),
        (GOOD + f"title: {201 * 'x'}\n", "7: title: expected text of at most 200 characters"),
        (GOOD.replace("house-rules", '"a\\tb"'), "1: id: expected no control characters"),
        (GOOD.replace("title", "titel"), "5: categories[0].titel: unknown field; did you mean title?"),
        (GOOD.replace("    title: Spam\n", ""), "4: categories[0].title: missing, and required"),
        (
            GOOD.replace("C1", "1C"),
            "4: categories[0].code: expected a letter, then up to 15 of A-Z a-z 0-9 _ -",
        ),
        (GOOD + "threshold: 1.5\n", "7: threshold: expected a number, at most 1"),
        (GOOD + "threshold: .nan\n", "7: threshold: expected a number, at least 0"),
        (GOOD + f"threshold: 1{400 * '0'}\n", "7: threshold: expected a number of usual size"),
        (
            GOOD + "max_false_positive_rate: 0\n",
            "7: max_false_positive_rate: expected a number, more than 0",
        ),
        (
            GOOD + "max_false_positive_rate: .nan\n",
            "7: max_false_positive_rate: expected a number, more than 0",
        ),
        (
            GOOD + "threshold: 0.5\nmax_false_positive_rate: 0.01\n",
            "8: max_false_positive_rate: expected either a threshold or a false-positive rate, not both",
        ),
        (
            GOOD + "    threshold: 0.5\n    max_false_positive_rate: 0.01\n",
            "8: categories[0].max_false_positive_rate: expected either a threshold or a false-positive rate",
        ),
        (GOOD + "deadline_ms: 1.5\n", "7: deadline_ms: expected a whole number, got a decimal number"),
        (
            GOOD + "deadline_ms: 99999999999999999999\n",
            "7: deadline_ms: expected a whole number, at most 9007199254740991",
        ),
        (GOOD + "on_unjudged: hold\n", "7: on_unjudged: expected one of review, allow, block"),
        (GOOD + "surfaces: [user, system]\n", "7: surfaces[1]: expected one of user, assistant"),
        (GOOD + "surfaces: [user, user]\n", "7: surfaces: a role stands twice"),
        (GOOD + SECOND.replace("C2", "c1"), "7: categories[1].code: the category code 'c1' stands twice"),
        (
            GOOD + "examples:\n  - {text: x, label: unsafe, codes: [C1, C9]}\n",
            "8: examples[0].codes[1]: the policy",
        ),
        (
            GOOD + "examples:\n  - {text: x, label: safe, codes: [C1]}\n",
            "8: examples[0].codes: a safe example",
        ),
        ("id: a\nversion: b\ncategories: []\n", "3: categories: expected a list of at least 1 entry"),
        ("id: a\nversion: b\ncategories: 3\n", "3: categories: expected a list, got a number"),
        ("id: a\nversion: b\ncategories: [x]\n", "3: categories[0]: expected fields, each with a name"),
        ("id: a\nversion: b\ncategories:\n  - code: [\n", "5: "),
        ("- id: a\n", "1: expected a policy"),
        ("just words\n", "1: expected a policy"),
        ("", "1: the file holds no policy"),
        ("# nothing\n---\n", "1: the file holds no policy"),
    ],
)
def test_a_problem_names_line_and_field(tmp_path: Path, text: str, expected: str) -> None:
    assert _problem(tmp_path, text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "field", "fields"),
    [
        (GOOD + "zzz: 1\n", "zzz", "id, version, categories, title, tenant"),
        (GOOD + "    crosswalk: {zzz: 1}\n", "categories[0].crosswalk.zzz", "rsafe, mlcommons, openai"),
        (GOOD + "examples:\n  - zzz: 1\n", "examples[0].zzz", "text, label, role, codes"),
    ],
)
def test_an_unknown_field_like_no_other_is_told_with_all_of_its_place(
    tmp_path: Path, text: str, field: str, fields: str
) -> None:
    assert f"{field}: unknown field; expected one of {fields}" in _problem(tmp_path, text)


def test_an_adaptive_policy_may_have_a_band_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD + "mode: adaptive\nuncertain_band: {low: 0.2, high: 0.8}\n", encoding="utf-8")
    (found,) = read_policy_file(path)
    assert (found.policy.mode, found.policy.uncertain_band) == ("adaptive", Band(low=0.2, high=0.8))


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ("{low: 0.8, high: 0.2}", "7: uncertain_band.high: expected at least the value of low"),
        ("{low: 0.8, hihg: 0.9}", "7: uncertain_band.hihg: unknown field; did you mean high?"),
        ("{low: 0.8}", "7: uncertain_band.high: missing, and required"),
        ("{low: 0.8, high: 1.5}", "7: uncertain_band.high: expected a number, at most 1"),
    ],
)
def test_a_band_that_is_none_is_told_with_its_place(tmp_path: Path, band: str, expected: str) -> None:
    assert _problem(tmp_path, GOOD + f"uncertain_band: {band}\n") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "id: other\n", "7: id: stands twice; expected once"),
        (GOOD + "    title: Ads\n", "7: categories[0].title: stands twice; expected once"),
        (GOOD + "3: x\n", "7: expected a name before the colon"),
        (GOOD + "[a]: x\n", "7: expected a name before the colon"),
        (GOOD + 'title: "\\ud800"\n', "7: title: half of a surrogate pair"),
        (GOOD + "title: \x01\n", "7: a character that YAML does not allow"),
        (GOOD + "title: !!python/object:os.system x\n", "7: title: a tag that policies do not use"),
        (GOOD + "title: !!map x\n", "7: "),
        (GOOD + '"\\e[31m": x\n', "7: \\x1b[31m: unknown field"),
        (GOOD + "'x` - at `$.y': 1\n", "1: y.x: unknown field"),
        (GOOD + "<<: 3\n", "7: expected a mapping"),
        (GOOD + "title: *nobody\n", "7: found undefined alias 'nobody'"),
        (GOOD.encode() + b"title: \xff\n", "7: expected UTF-8"),
        ("[" * 20_000, "1: nested too deeply"),
        ("a: &a [*a]\n", "1: expected at most 50000 values"),
    ],
)
def test_what_yaml_allows_but_a_policy_does_not(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert _problem(tmp_path, text).startswith(expected)


def test_aliases_of_aliases_are_refused_before_they_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "expected at most 50000 values" in _problem(tmp_path, "\n".join(lines))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    assert _problem(tmp_path, "x" * (MAX_FILE_BYTES + 1)).endswith(
        f"expected a file of at most {MAX_FILE_BYTES} bytes"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"rules\.yaml:1: cannot be read: Is a directory"):
        read_policy_file(_folder(tmp_path))


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "rules.yaml"
    folder.mkdir()
    return folder


def test_each_document_reports_its_first_problem(tmp_path: Path) -> None:
    broken = GOOD.replace('"1"', "1")
    path = _write(tmp_path, broken + "---\n" + GOOD + "---\n" + broken)
    with pytest.raises(PolicyFileError) as caught:
        read_policy_file(path)
    assert [problem.line for problem in caught.value.problems] == [2, 16]


@given(st.binary(max_size=200) | st.text(st.sampled_from('abi:d-[]{}&*!"\n #|>\t,')).map(str.encode))
def test_any_bytes_give_policies_or_a_policy_file_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = _write(tmp_path_factory.mktemp("any"), content)
    problems = []
    try:
        assert read_policy_file(path)
    except PolicyFileError as error:
        problems = error.problems
    assert all(problem.file == path and problem.line >= 1 for problem in problems)
