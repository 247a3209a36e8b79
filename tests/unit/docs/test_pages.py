from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import click
import jsonschema
import msgspec
import pytest
import yaml

from schemas.decision import Decision
from schemas.policy import Policy
from tests.unit.docs.pages import ROOT, Page, pages
from tests.unit.helm.chart import SCHEMA, VALUES, merged
from workers.cli import COMMANDS, rsafe
from workers.conduct.metrics import ConductMetrics
from workers.metrics import Metrics
from workers.settings import FOREIGN_VARIABLES, setting_fields

PAGES = list(pages())
# `rsafe <sub> …` in code; a word in prose after "rsafe" is no command.
COMMAND = re.compile(r"(?:^|[\s/`(])rsafe (?P<words>[a-z][a-z-]*(?: [a-z][a-z-]*)?)")
VARIABLE = re.compile(r"\bRSAFE_[A-Z_]+")
FIELDS = setting_fields()
VARIABLES = {field.variable for field in FIELDS} | FOREIGN_VARIABLES
VARIABLES |= {f"{field.variable}_FILE" for field in FIELDS if field.secret}


def named(page: Page) -> str:
    return page.name


def code(page: Page) -> list[str]:
    """Lines of shell blocks, and spans in backticks outside of blocks."""
    lines = [
        line.removeprefix("$ ")
        for block in page.blocks
        if block.language in ("sh", "console")
        for line in block.text.splitlines()
        if block.language == "sh" or line.startswith("$ ")
    ]
    outside = re.sub(r"```.*?```", "", page.text, flags=re.DOTALL)
    return lines + re.findall(r"`([^`\n]+)`", outside)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_resolve(page: Page) -> None:
    broken = []
    for target in page.links:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file) if file else page.path
        if not path.exists() or (anchor and anchor not in Page(path).anchors):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page: Page) -> None:
    unknown = []
    for line in code(page):
        for match in COMMAND.finditer(line):
            first, *rest = match["words"].split()
            if first not in COMMANDS:
                unknown.append(match["words"])
                continue
            command = rsafe.get_command(click.Context(rsafe), first)
            if isinstance(command, click.Group) and rest and rest[0] not in command.commands:
                unknown.append(match["words"])
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_exist(page: Page) -> None:
    unknown = []
    for line in code(page):
        for part in re.split(r"[;|]|&&", line):
            match = re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?rsafe (?P<rest>.*)", part.strip())
            if match is None:
                continue
            words = match["rest"].split(" -- ")[0].split()
            command: click.Command = rsafe
            while words and isinstance(command, click.Group):
                below = command.get_command(click.Context(command), words.pop(0))
                if below is None:
                    break
                command = below
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            unknown += [w for w in words if re.fullmatch(r"--[a-z-]+", w) and w not in known]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_variables_exist(page: Page) -> None:
    found = {name for name in VARIABLE.findall(page.text) if not name.endswith("_")}
    groups = {f"RSAFE_{field.path[0]}__".upper() for field in FIELDS}
    partial = {name for name in VARIABLE.findall(page.text) if name.endswith("_")}
    assert found - VARIABLES == set()
    assert partial - groups - {"RSAFE_"} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_metrics_exist(page: Page) -> None:
    families = [*Metrics().registry.collect(), *ConductMetrics().registry.collect()]
    known = {f.name for f in families} | {f"{f.name}_total" for f in families if f.type == "counter"}
    parts = ("bucket", "count", "sum")
    known |= {f"{f.name}_{part}" for f in families if f.type == "histogram" for part in parts}
    assert set(re.findall(r"\brsafe_[a-z_]+", page.text)) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_parse(page: Page) -> None:
    for block in page.blocks:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.language == "python":
            compile(block.text, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_are_what_they_show(page: Page) -> None:
    """Policies load, decisions decode, chart values satisfy the chart's schema."""
    for block in page.blocks:
        content: Any = yaml.safe_load(block.text) if block.language in ("yaml", "json") else None
        match content:
            case {"categories": _, "id": _}:
                msgspec.convert(content, Policy)
            case {"decision_id": _}:
                msgspec.json.decode(block.text, type=Decision)
            case {"image": _, "settings": _}:
                jsonschema.Draft7Validator(SCHEMA).validate(merged(VALUES, content))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_speak_of_no_machine(page: Page) -> None:
    assert re.search(r"(?<![\w.])/(?:work|root|home|tmp/(?!vllm))\b", page.text) is None


def test_every_page_is_reached_from_the_map() -> None:
    index = Page(ROOT / "docs" / "index.md")
    reached = {(index.path.parent / target.partition("#")[0]).resolve() for target in index.links}
    lost = [
        page.name
        for page in PAGES
        if page.path.is_relative_to(ROOT / "docs")
        and page.path != index.path
        and page.path not in reached
        and page.path.parent not in reached
    ]
    assert lost == []


def test_generated_pages_are_fresh() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
