import itertools
from pathlib import Path

from guard.training.durable import WRITING, write_durably
from tests.unit.guard.training.dying import dies_before


def test_a_file_has_its_old_or_its_new_content_whenever_the_writer_dies(tmp_path: Path) -> None:
    file = tmp_path / "file"
    seen = set()
    for change in itertools.count(1):
        file.write_bytes(b"old")
        died = dies_before(change, write_durably, file, b"new and longer")
        seen.add(file.read_bytes())
        if not died:
            break
    assert seen == {b"old", b"new and longer"}
    assert file.read_bytes() == b"new and longer"
    assert not file.with_name(f"file.{WRITING}").exists()
