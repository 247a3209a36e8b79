from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.guard.serving.token_server import VOCABULARY


@pytest.fixture
def remote_folder(tmp_path: Path) -> Path:
    """As much of a checkpoint as the client of servers reads."""
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
    return tmp_path
