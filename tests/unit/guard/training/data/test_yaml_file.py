from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.errors import RowError, TrainingDataError
from guard.training.data.mapping import MappingFile
from guard.training.data.yaml_file import read_yaml, read_yaml_documents
from schemas.policy import Policy
from tests.unit.guard.training.data.samples import MAPPING, POLICY


def test_a_document_becomes_its_struct(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING)
    mapping = read_yaml(path, MappingFile)
    assert mapping.views[0].unsafe == {"*": "unsafe", "bad": "C1"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MAPPING.replace("note: of the tests", "note: 7"), r":2: note: Expected `str`, got `int`"),
        (MAPPING.replace("bad: C1", "bad: [C1]"), r":4: views\[0\].unsafe.*: Expected `str`, got `array`"),
        (
            MAPPING.replace("name: own", "title: own"),
            r":4: views\[0\]: Object contains unknown field `title`",
        ),
        (MAPPING.replace("bad: C1", "bad: C1, bad: C2"), r":4: views\[0\].unsafe.bad: stands twice"),
        ("note: [", r":1: expected"),
        ("note: x\n- y", r":2: "),
        ("7", r":1: expected fields"),
        ("note: 2026-99-99", "a value that YAML does not allow"),
        ("note: \x07", "expected YAML"),
        ("", "expected one document, found 0"),
        (MAPPING + "---" + MAPPING, "expected one document, found 2"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(TrainingDataError, match=sentence) as caught:
        read_yaml(path, MappingFile)
    assert "mapping.yaml" in str(caught.value)


def test_a_rule_between_fields_is_named_with_its_field(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("code: C2", "code: c1"))
    with pytest.raises(RowError, match=r"policy.yaml:6: categories\[1\].code: the category code 'c1' stands"):
        read_yaml(path, Policy)


def test_several_documents_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICY + "---\n---" + POLICY.replace("id: own", "id: second"))
    assert [policy.id for policy in read_yaml_documents(path, Policy)] == ["own", "second"]


def read_or_refused(path: Path) -> MappingFile | TrainingDataError:
    try:
        return read_yaml(path, MappingFile)
    except TrainingDataError as error:
        return error


@given(
    content=st.one_of(
        st.binary(max_size=60), st.text("{}[]:-&*!?|>%@`'\" \nab1", max_size=40).map(str.encode)
    )
)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("yaml") / "mapping.yaml"
    path.write_bytes(content)
    outcome = read_or_refused(path)
    assert isinstance(outcome, MappingFile) or str(outcome).startswith(str(path))
