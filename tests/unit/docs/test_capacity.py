"""The page on capacity shows what `rsafe plan` prints, and the figures that it counts with."""

from __future__ import annotations

import shlex

from click.testing import CliRunner

from tests.unit.docs.pages import ROOT, Page
from workers.capacity.figures import load_figures
from workers.commands.plan import plan

PAGE = Page(ROOT / "docs" / "operations" / "capacity.md")


def test_the_example_is_the_output_of_its_command() -> None:
    (block,) = [one.text for one in PAGE.blocks if one.language == "console" and "rsafe plan" in one.text]
    command, *output = block.rstrip("\n").splitlines()
    words = shlex.split(command.removeprefix("$ rsafe plan"))
    told = CliRunner().invoke(plan, words, catch_exceptions=False).output
    assert output == told.rstrip("\n").splitlines()


def test_every_figure_is_in_the_table_with_its_value_and_source() -> None:
    for figure in load_figures().figures:
        row = next(line for line in PAGE.text.splitlines() if line.startswith(f"| `{figure.name}`"))
        assert f"{figure.value:g}" in row.replace(",", "")
        assert figure.source in row
