from pathlib import Path

import msgspec
import pytest

from guard.training.data.errors import explained
from guard.training.data.sources import RawRow

WHOLE = b'{"id":"a","messages":[{"role":"user","content":"hello"}],"label":"safe"}'


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        (WHOLE.replace(b'"safe"', b'"private words"'), "label", "expected a or b"),
        (WHOLE.replace(b'"hello"', b"7"), "messages[0].content", "Expected `str`, got `int`"),
        (
            WHOLE.replace(b'"label":"safe"', b'"x":"private words"'),
            "",
            "Object missing required field `label`",
        ),
        (b"private words", "", "expected one JSON object on a line"),
        (WHOLE[:40], "", "expected one JSON object on a line"),
        (b'["private words"]', "", "Expected `object`, got `array`"),
    ],
)
def test_the_sentence_names_the_field_and_not_the_value(line: bytes, field: str, expected: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(line, type=RawRow)
    error = explained(Path("file.jsonl"), 7, caught.value, "a or b")
    at = f"{field}: " if field else ""
    assert str(error) == f"file.jsonl:7: {at}{expected}"
    assert "private" not in str(error)
    assert (error.file, error.line, error.field) == (Path("file.jsonl"), 7, field)
