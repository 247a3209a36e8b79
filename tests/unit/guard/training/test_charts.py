from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from guard.training.charts import Bar, bar_chart, histogram, line_chart, reliability_chart

SVG = "{http://www.w3.org/2000/svg}"


def shapes(svg: str, kind: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}{kind}"))


def test_a_bar_is_as_long_as_its_value_and_its_whisker_as_the_interval() -> None:
    svg = bar_chart([("a <suite>", [Bar(0, 0.5, 0.25, 0.75, "half"), Bar(1, 1.0, 1.0, 1.0, "all")])])
    half, whole = (float(one.attrib["width"]) for one in shapes(svg, "rect"))
    assert half == whole / 2
    whisker = next(one for one in shapes(svg, "line") if one.attrib["class"] == "whisker")
    assert float(whisker.attrib["x2"]) - float(whisker.attrib["x1"]) == whole / 2
    assert "a &lt;suite&gt;" in svg
    assert [one.text for one in shapes(svg, "title")] == ["a <suite>", "half", "all"]
    assert f">{'x' * 35}…<" in bar_chart([("x" * 37, [])])


def test_a_curve_spans_its_values_and_leaves_out_what_is_no_number() -> None:
    svg = line_chart("loss", [(0, 4.0), (1, math.nan), (2, 2.0), (3, math.inf)], ends=[1])
    (line,) = shapes(svg, "polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == 2
    assert points[0][0] < points[1][0]
    assert points[0][1] < points[1][1]  # down on the page is less
    assert len([one for one in shapes(svg, "line") if one.attrib["class"] == "end"]) == 1
    assert line_chart("loss", [(0, math.nan)]) == ""
    assert shapes(line_chart("flat", [(0, 1.0)]), "polyline")


def test_a_score_that_is_worth_what_it_says_lies_on_the_diagonal() -> None:
    bins = [{"n": 5, "score": 0.0, "unsafe": 0.0}, {"n": 5, "score": 1.0, "unsafe": 1.0}]
    svg = reliability_chart("think", {"raw": bins})
    diagonal = next(one for one in shapes(svg, "line") if one.attrib["class"] == "grid").attrib
    (line,) = shapes(svg, "polyline")
    assert line.attrib["points"] == f"{diagonal['x1']},{diagonal['y1']} {diagonal['x2']},{diagonal['y2']}"


def test_the_most_rows_fill_the_histogram_and_none_are_no_bar() -> None:
    svg = histogram("scores", {"safe": [999, 0], "unsafe": [9, 99]})
    frame, *bars = shapes(svg, "rect")
    heights = [float(one.attrib["height"]) for one in bars]
    assert heights[0] == float(frame.attrib["height"])
    assert heights[1] == 0.0
    assert heights[2] < heights[3] < heights[0]
    assert shapes(histogram("nothing", {"safe": [], "unsafe": []}), "rect")


VALUES = st.lists(st.floats(allow_nan=False, min_value=-1, max_value=2), max_size=3)


@given(st.lists(st.tuples(st.text(max_size=8), VALUES), max_size=4))
def test_every_chart_is_well_formed(rows: list[tuple[str, list[float]]]) -> None:
    named = [(re.sub(r"[^\x20-\x7e]", "", name), values) for name, values in rows]
    bars = [(name, [Bar(n, v, v, v, name) for n, v in enumerate(values)]) for name, values in named]
    ET.fromstring(bar_chart(bars))
    for name, values in named:
        if values:
            ET.fromstring(line_chart(name, list(enumerate(values))))
