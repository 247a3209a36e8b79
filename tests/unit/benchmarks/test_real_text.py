from typing import Any

from benchmarks.real_text import rows_of


def suite(n: int, value: float) -> dict[str, Any]:
    return {"n": n, "unsafe": 1, "figures": {"f1": {"value": value, "low": 0.0, "high": 1.0}}}


def test_the_mean_comes_first_and_a_classifier_stands_beside_the_guard() -> None:
    suites: dict[str, dict[str, Any]] = {
        "fast": {
            "real/b": suite(4, 0.5),
            "real/macro": {"figures": {"f1": {"value": 0.25}}},
            "custom/all": {},
        },
        "floor": {"real/b": suite(4, 0.75)},
    }
    assert rows_of(suites) == [
        ["macro", "guard, `fast`", "–", "0.250", "–", "–", "–"],
        ["b", "guard, `fast`", "4 (1)", "0.500 (0.000–1.000)", "–", "–", "–"],
        ["b", "classifier", "4 (1)", "0.750 (0.000–1.000)", "–", "–", "–"],
    ]
