import hashlib
from pathlib import Path

from guard.training.data_files import data_files


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_files_and_folders_that_are_named_are_found(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("a")
    (tmp_path / "rows" / "b.jsonl").write_text("b")
    (tmp_path / "map.yaml").write_text("m")
    settings = {
        "sources": [
            {"kind": "generator", "name": str(tmp_path / "map.yaml")},
            {"kind": "jsonl", "path": str(tmp_path / "rows"), "mapping": str(tmp_path / "map.yaml")},
        ],
        "leaks": {"evaluation_paths": [str(tmp_path / "rows" / "a.jsonl"), "shipped"]},
        "seed": 3,
    }
    assert data_files(settings) == {
        str(tmp_path / "map.yaml"): sha("m"),
        str(tmp_path / "rows" / "a.jsonl"): sha("a"),
        str(tmp_path / "rows" / "b.jsonl"): sha("b"),
    }


def test_the_policies_that_a_mapping_names_are_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    mapping, policy = tmp_path / "own" / "map.yaml", tmp_path / "own" / "mine.yaml"
    mapping.write_text(
        "note: n\nviews:\n- {name: a, policy: mine.yaml}\n- {name: b, policy: rsafe-18}\n"
        "- {name: c, policy: gone.yaml}\n"
    )
    policy.write_text("one")
    settings = {"sources": [{"kind": "jsonl", "path": "", "mapping": str(mapping)}]}
    before = data_files(settings)
    assert set(before) == {str(mapping), str(policy)}
    policy.write_text("two")
    assert data_files(settings) != before


def test_another_content_is_another_input(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("one")
    before = data_files({"path": str(file)})
    file.write_text("two")
    assert data_files({"path": str(file)}) != before
