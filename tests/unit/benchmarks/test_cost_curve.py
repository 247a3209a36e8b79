from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.cost_curve import CONTEXTS, MESSAGES, SIZES, draw, points, policies
from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from schemas.policy import canonical_categories

LENGTH = 2048  # of the shipped checkpoint


def test_a_smaller_policy_is_the_beginning_of_a_larger_one() -> None:
    by_size = policies()
    for size, policy in by_size.items():
        assert len(policy.categories) == size
        largest = by_size[max(SIZES)].categories
        assert set(canonical_categories(policy)) <= set(largest)


def test_every_place_of_the_curves_fits_the_shipped_checkpoint_and_grows() -> None:
    tiny = SHIPPED / "tiny"
    renderer = PromptRenderer(tiny, template_of(tiny), b"")
    found = points(renderer)
    longest: dict[str, list[int]] = {}
    for point in found:
        lengths = [len(renderer.render(one.policy, one.turns)) for one in point.questions]
        # Room for a rationale and its answer.
        assert max(lengths) < LENGTH - 100, (point.curve, point.size)
        assert len({one.turns[-1].text for one in point.questions}) == len(point.questions) >= MESSAGES // 2
        longest.setdefault(point.curve, []).append(max(lengths))
    assert {curve: len(lengths) for curve, lengths in longest.items()} == {
        "fast": len(SIZES),
        "think": len(SIZES),
        "context": len(CONTEXTS),
    }
    assert all(lengths == sorted(lengths) for lengths in longest.values())


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    data = [
        {
            "curve": curve,
            "size": size,
            "prompt_tokens": 10.0 * size,
            "cached_tokens": 5.0 * size,
            "per_second": {"with": [3.0, 4.0], "without": [1.0, 2.0]},
        }
        for curve in ("fast", "think", "context")
        for size in (1, 2)
    ]
    for name in ("a.svg", "b.svg"):
        draw(data, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    shown = [one.text for one in ET.parse(tmp_path / "a.svg").iter() if one.tag.endswith("text")]
    assert shown.count("with prefix caching") == 3
    assert shown.count("decisions a second") == 3
