"""Each `fail` of the templates is reached by values that deserve it; its sentence names the value's path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.unit.helm.chart import CHART, VALUES
from tests.unit.helm.rendering import needs_helm, template

# `fail "…"`, or `fail (printf "…" …)`; a sentence has no quotation mark in it but `\"`.
FAIL: Final = re.compile(r'\bfail\s+(?:\(\s*printf\s+)?("(?:[^"\\]|\\.)*"|`[^`]*`)')
SENTENCE: Final = re.compile(r"execution error at \([^)]*\): (.*)")
WORD: Final = re.compile(r"\bfail\b")
COMMENT: Final = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"')

# Values, and the path that the sentence has to name. As YAML: what a user would write.
CASES: Final[dict[str, tuple[str, str]]] = {
    "a static member for several replicas": (
        "{replicas: 2, settings: {kafka: {group_instance_id: worker-0}}}",
        "settings.kafka.group_instance_id",
    ),
    "two places of policies": (
        "{policies: {existingConfigMap: mine, files: {a.yaml: x}}}",
        "policies.files",
    ),
    "a path beside mounted policies": (
        "{settings: {policies: {path: /elsewhere}}, policies: {existingConfigMap: mine}}",
        "settings.policies.path",
    ),
    "a checkpoint beside a mounted one": (
        "{settings: {guard: {checkpoint: /elsewhere}}, checkpoint: {existingClaim: mine}}",
        "settings.guard.checkpoint",
    ),
    "a certificate beside a mounted one": (
        "{settings: {kafka: {ssl_ca_location: /elsewhere}}, tls: {kafka: {existingSecret: mine}}}",
        "settings.kafka.ssl_ca_location",
    ),
}
# `fail`s that the schema refuses before: the template's is for those who switch the schema off.
BEHIND_THE_SCHEMA: Final[dict[str, tuple[str, str]]] = {
    "a setting among the variables": (
        "{extraEnv: [{name: RSAFE_GUARD__ENGINE, value: scripted}]}",
        "extraEnv",
    ),
}


def templates() -> dict[str, str]:
    """The template files, without comments."""
    files = sorted(file for file in (CHART / "templates").rglob("*") if file.is_file())
    return {file.name: COMMENT.sub("", file.read_text(encoding="utf-8")) for file in files}


def sentences() -> Iterator[tuple[str, str]]:
    """File and sentence of each `fail` call."""
    for file, text in templates().items():
        for found in FAIL.finditer(text):
            yield file, re.sub(r"\\(.)", r"\1", found[1][1:-1])


SENTENCES: Final = list(dict.fromkeys(sentences()))
IDS: Final = [f"{file}:{'-'.join(words.split()[:5])}" for file, words in SENTENCES]


def pattern(words: str) -> re.Pattern[str]:
    """What the sentence looks like with its parts filled in."""
    parts = re.split(r"%(?:\[\d+\])?[a-z]", words)
    return re.compile(".+?".join(re.escape(part) for part in parts), re.DOTALL)


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Of each case helm's words."""
    runs = {name: template(values=values) for name, (values, _) in CASES.items()}
    behind = ("--skip-schema-validation",)
    runs |= {name: template(*behind, values=values) for name, (values, _) in BEHIND_THE_SCHEMA.items()}
    accepted = [name for name, run in runs.items() if run.returncode == 0]
    assert accepted == []
    return {name: run.stderr for name, run in runs.items()}


@needs_helm
@pytest.mark.parametrize("case", CASES | BEHIND_THE_SCHEMA)
def test_the_sentence_names_the_path(case: str, said: dict[str, str]) -> None:
    _, path = (CASES | BEHIND_THE_SCHEMA)[case]
    sentence = SENTENCE.search(said[case])
    assert sentence is not None, f"refused by something else than `fail`: {said[case]}"
    assert path in sentence[1]


@needs_helm
@pytest.mark.parametrize(("file", "words"), SENTENCES, ids=IDS)
def test_each_refusal_is_reached(file: str, words: str, said: dict[str, str]) -> None:
    assert any(pattern(words).search(text) for text in said.values()), words


@pytest.mark.parametrize(("file", "words"), SENTENCES, ids=IDS)
def test_each_refusal_begins_with_a_value(file: str, words: str) -> None:
    first = words.split()[0].rstrip(":")
    assert first.split(".")[0] in {*VALUES, "%s"}, words


def test_no_refusal_is_overlooked() -> None:
    """A `fail` whose sentence is made elsewhere would not be found above."""
    texts = [TEXT.sub("", FAIL.sub(" ", text)) for text in templates().values()]
    assert [text for text in texts if WORD.search(text)] == []


@needs_helm
@pytest.mark.parametrize("case", BEHIND_THE_SCHEMA)
def test_the_schema_refuses_it_first(case: str) -> None:
    values, path = BEHIND_THE_SCHEMA[case]
    run = template(values=values)
    assert run.returncode != 0
    assert path in run.stderr
    assert "schema" in run.stderr
