"""Pieces of the report page: axes, curves, histograms, confusions, images."""

import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_array

from lt.evaluate.calibration import pooled
from lt.page import confusion, plot
from lt.report import words


def test_axes():
    axis = plot.linear([0.42, 0.88], "accuracy", percent=True)
    assert [text for _, text in axis.ticks] == ["40", "50", "60", "70", "80", "90"]
    assert (axis.place(0.4), axis.place(0.9)) == pytest.approx((0, 1))
    assert plot.linear([0.3, 0.99], "", within=(0, 1)).high == 1
    assert [text for _, text in plot.linear([-0.5, 2.0], "").ticks] == ["-0.5", "0", "0.5", "1", "1.5", "2"]
    assert plot.linear([3.0, 3.0, None, float("nan")], "").place(3.0) == pytest.approx(0.5)
    counts = plot.logarithmic([500, 5], "", reverse=True)
    assert [value for value, _ in counts.ticks] == [5, 10, 20, 50, 100, 200, 500]
    assert (counts.place(500), counts.place(50), counts.place(5)) == pytest.approx((0, 0.5, 1))
    assert [value for value, _ in plot.logarithmic([500, 5], "", most=3).ticks] == [10, 100]


def test_levels_join_equal_counts_and_many_different_ones():
    assert [level.tolist() for level in plot.levels([7, 3, 7, 5])] == [[0, 2], [3], [1]]
    found = plot.levels(np.arange(100))
    assert len(found) == 10 and sorted(np.concatenate(found).tolist()) == list(range(100)) and found[0].min() == 90


def test_lines_have_gaps_where_values_are_missing():
    axis = plot.Axis(0, 1, "", ())
    chart = plot.Chart(axis, axis, "a < b")
    chart.line("row", [0, 0.25, 0.5, 0.75, 1], [0, 1, None, float("nan"), 0.5], "<row>")
    chart.dots("row", [0, 1], [0.5, None])
    html = chart.html()
    assert 'd="M0 1000L250 0M1000 500"' in html and 'd="M0 500h0"' in html
    assert "a &lt; b" in html and "&lt;row&gt;" in html


def test_of_very_many_dots_each_place_is_drawn_once_and_without_a_text(monkeypatch):
    monkeypatch.setattr(plot, "MOST_MARKS", 3)
    axis, titles = plot.Axis(0, 1, "", ()), list("abcd")
    charts = [plot.Chart(axis, axis, "") for _ in range(2)]
    for chart, number in zip(charts, (3, 4)):
        chart.dots("row", [0, 1, 0, 0][:number], [0.5] * number, titles[:number])
    few, many = (chart.html() for chart in charts)
    assert few.count("<title>") == 3 and 'd="M0 500h0M1000 500h0"' not in few
    assert many.count("<title>") == 0 and 'd="M0 500h0M1000 500h0"' in many


def test_reliability_of_seeds_is_pooled_by_count():
    one = {"count": [0, 1, 3], "confidence": [None, 0.4, 0.8], "accuracy": [None, 0.0, 1.0]}
    two = {"count": [0, 3, 0], "confidence": [None, 0.6, None], "accuracy": [None, 1.0, None]}
    found = pooled([one, two])
    assert found["count"].tolist() == [4, 3]
    assert found["confidence"] == pytest.approx([0.55, 0.8]) and found["accuracy"] == pytest.approx([0.75, 1.0])


def test_worst_pairs_come_in_order_without_the_right_ones():
    shares = csr_array([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]])
    assert confusion.worst_pairs(shares) == [(0, 1), (2, 0), (0, 2), (1, 2)]
    assert confusion.worst_pairs(csr_array(np.eye(3))) == []


def test_matrices_show_ten_classes_at_most_from_pairs_of_each_row_in_turn():
    assert confusion.matrix_classes(np.array([5, 9, 7]), []) == [1, 2, 0]
    counts = np.arange(20, 0, -1)
    first, second = [(0, 1), (2, 3), (4, 5), (6, 7)], [(10, 11), (12, 13), (14, 15)]
    assert confusion.matrix_classes(counts, [first, second]) == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13]


def test_png_holds_the_pixels_and_large_images_their_block_means():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    kind, _, content = confusion.data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(b64decode(content)))), image)
    large = np.zeros((194, 194, 3), np.uint8)
    large[:3, :3] = 90
    small = np.asarray(Image.open(io.BytesIO(b64decode(confusion.data_uri(large).partition(",")[2]))))
    assert small.shape == (64, 64, 3) and small[0, 0].tolist() == [90, 90, 90] and small.sum() == 270


def test_times_are_told_in_words():
    assert [words.in_words(value) for value in (0.04, 9.94, 12.4, 59.7, 200, 7500)] == [
        "0.0 s", "9.9 s", "12 s", "1 min 0 s", "3 min 20 s", "2 h 5 min",
    ]  # fmt: skip
