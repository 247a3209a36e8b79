import msgspec
import pytest

from guard.training.data.settings import DataSettings, GeneratorSource, JsonlSource, ReviewsSource

SOURCES = [
    {"kind": "generator", "train_rows": 10},
    {"kind": "jsonl", "path": "data", "most_rows": 5},
    {"kind": "reviews", "path": "reviews.jsonl", "policies": "policies"},
]


def test_each_kind_of_source_has_its_own_fields() -> None:
    settings = msgspec.convert({"sources": SOURCES}, DataSettings)
    assert [type(source) for source in settings.sources] == [GeneratorSource, JsonlSource, ReviewsSource]
    assert (settings.max_prompt_tokens, settings.max_completion_tokens) == (2048, 512)
    assert msgspec.convert(msgspec.to_builtins(settings), DataSettings) == settings


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sources": []}, r"Expected `array` of length >= 1 - at `\$.sources`"),
        ({"sources": [{"kind": "csv", "path": "x"}]}, r"Invalid value 'csv' - at `\$.sources\[0\].kind`"),
        ({"sources": [{"kind": "jsonl", "path": ""}]}, r"at `\$.sources\[0\].path`"),
        (
            {"sources": [{"kind": "jsonl", "path": "x", "rows": 1}]},
            r"unknown field `rows` - at `\$.sources\[0\]`",
        ),
        ({"sources": [{"kind": "jsonl", "path": "x", "only": ["a"], "leave_out": ["b"]}]}, "not both"),
        ({"perturbation": {"drop": 1.5}}, r"`float` <= 1.0 - at `\$.perturbation.drop`"),
        ({"leaks": {"threshold": 0.1}}, r"at `\$.leaks.threshold`"),
        ({"max_prompt_tokens": 0}, r"at `\$.max_prompt_tokens`"),
        ({"blance": True}, "unknown field `blance`"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.convert({"sources": SOURCES, **changes}, DataSettings)
