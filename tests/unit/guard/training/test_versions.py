from importlib.metadata import version

from guard.training.versions import stage_versions


def test_versions_are_of_what_a_stage_goes_through() -> None:
    plain, grpo = stage_versions("warm-start"), stage_versions("grpo")
    assert {"python", "rsafe-stream", "torch", "tokenizers"} <= set(plain)
    assert plain["torch"] == version("torch")
    assert "trl" not in plain
    assert grpo["trl"] == version("trl")
    assert all(grpo.values())
