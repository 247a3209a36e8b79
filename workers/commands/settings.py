"""`rsafe settings`: what is in force."""

from __future__ import annotations

import json
from typing import Any

import click

from workers.settings import load_settings, setting_fields


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def settings(as_json: bool) -> None:
    """Show the settings in force, secrets hidden."""
    tree = load_settings().model_dump(mode="json")
    if as_json:
        click.echo(json.dumps(tree, indent=2))
        return
    for field in setting_fields():
        group, name = field.path
        value: Any = tree[group][name]
        # A secret that is set is dumped as asterisks, and its default is empty.
        mark = "   # set" if value != field.default else ""
        click.echo(f"{field.variable}={'' if value is None else value}{mark}")
