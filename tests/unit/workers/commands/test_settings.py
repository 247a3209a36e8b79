"""`rsafe settings`: everything but secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from workers.commands.settings import settings
from workers.settings import setting_fields

SECRETS = [field.variable for field in setting_fields() if field.secret]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize("source", ["", "_FILE"])
def test_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], source: str
) -> None:
    # Only sentinels have a password of their own.
    monkeypatch.setenv("RSAFE_REDIS__TOPOLOGY", "sentinel")
    monkeypatch.setenv("RSAFE_REDIS__SENTINEL_SERVICE", "verdicts")
    for number, variable in enumerate(SECRETS):
        file = tmp_path / variable
        file.write_text(f"redis://hunter-{number}")
        monkeypatch.setenv(variable + source, str(file) if source else f"redis://hunter-{number}")
    result = CliRunner().invoke(settings, arguments, catch_exceptions=False)
    assert "hunter" not in result.output
    assert result.output.count("*****") >= len(SECRETS)
