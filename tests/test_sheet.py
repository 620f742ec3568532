"""Lists and layout of the contact sheet, and images of the comparison."""

from __future__ import annotations

import numpy as np
import pytest

from comfy_node.pictures import captions
from comfy_node.pictures.compare import LAYOUTS, compare
from comfy_node.pictures.contact_sheet import AXES, Cell, plan, render
from comfy_node.texts import WorkerError


def test_every_combination_is_there_once_and_the_columns_run_across():
    made = plan("1, 2, 5-7", "20,50", "3; 5.5", "seeds")
    assert made.column_labels == ["seed 1", "seed 2", "seed 5", "seed 6", "seed 7"]
    assert made.row_labels == [
        "20 steps\ncfg 3",
        "20 steps\ncfg 5.5",
        "50 steps\ncfg 3",
        "50 steps\ncfg 5.5",
    ]
    assert len(set(made.cells)) == len(made.cells) == 20
    assert made.rows[1][2] == Cell(5, 20, 5.5)


@pytest.mark.parametrize("columns", AXES)
def test_any_axis_may_run_across(columns):
    made = plan("1-2", "1-3", "2，4，6，8", columns)
    across = {"seeds": 2, "steps": 3, "cfg": 4}[columns]
    assert {len(row) for row in made.rows} == {across}
    assert len(made.cells) == 24


def test_what_is_named_twice_is_made_once():
    assert plan("1, 1-2, 2", "1", "5, 5.0", "cfg").cells == [Cell(1, 1, 5), Cell(2, 1, 5)]


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (("", "1", "1"), "list of seeds is empty"),
        (("a", "1", "1"), "`a` is not a valid value for seeds"),
        (("-1", "1", "1"), "`-1` is not a valid value for seeds"),
        (("18446744073709551616", "1", "1"), "is not a valid value for seeds"),
        (("1", "0", "1"), "`0` is not a valid value for steps, which are from 1 to 200"),
        (("1", "201", "1"), "`201` is not a valid value for steps"),
        (("1", "1", "nan"), "`nan` is not a valid cfg from 1 to 20"),
        (("1", "1", "21"), "`21` is not a valid cfg"),
        (("1", "1", "5-7"), "`5-7` is not a valid cfg"),
        (("7-5", "1", "1"), "list of seeds is empty"),
        (("0-18446744073709551615", "1", "1"), "would have 65 images"),
        (("0-9", "1-7", "1"), "would have 70 images; the maximum is 64"),
    ],
)
def test_lists_that_are_wrong_are_refused_with_a_sentence(lists, said):
    with pytest.raises(WorkerError, match=said):
        plan(*lists, "seeds")


def colour(red: float, green: float, blue: float, height: int = 64, width: int = 96):
    return np.broadcast_to(np.float32([red, green, blue]), (height, width, 3)).copy()


def places_of(page: np.ndarray, colour: tuple[float, float, float]) -> tuple[slice, slice]:
    rows, columns = np.nonzero(np.all(abs(page - colour) < 0.02, axis=-1))
    return (rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1)


@pytest.mark.parametrize(("side", "height", "width"), [(0, 64, 96), (48, 32, 48), (500, 64, 96)])
def test_images_lie_in_their_rows_and_columns_whole_and_labelled(side, height, width):
    made = plan("1-2", "4,8", "5", "seeds")
    colours = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)]
    page = render(made, [colour(*one) for one in colours], side)
    assert page.dtype == np.float32 and page.min() >= 0 and page.max() <= 1
    places = [places_of(page, one) for one in colours]
    for (top, bottom), (left, right) in places:
        assert (bottom - top, right - left) == (height, width)
    (first, second, third, fourth) = places
    assert first[0] == second[0] and third[0] == fourth[0] and first[0][1] < third[0][0]
    assert first[1] == third[1] and second[1] == fourth[1] and first[1][1] < second[1][0]
    # Every caption is drawn: one above each column, one beside each row.
    ink = page.mean(axis=-1) > 0.7
    for _, (left, right) in (first, second):
        assert ink[: first[0][0], left:right].any()
    for (top, bottom), _ in (first, third):
        assert ink[top:bottom, : first[1][0]].any()


def test_a_page_that_no_program_opens_is_refused():
    made = plan("0-63", "1", "1", "seeds")
    with pytest.raises(WorkerError, match="Set a smaller cell_size"):
        render(made, [np.zeros((256, 256, 3), np.float32)] * 64, 0)


RED, BLUE = colour(1, 0, 0), colour(0, 0, 1)


def test_side_by_side_and_stacked_show_both_whole():
    for layout, axis in (("side by side", 1), ("stacked", 0)):
        page = compare(RED, BLUE, layout, ("before", "after"))
        red, blue = places_of(page, (1, 0, 0)), places_of(page, (0, 0, 1))
        for (top, bottom), (left, right) in (red, blue):
            assert (bottom - top, right - left) == (64, 96)
        assert red[axis][1] < blue[axis][0] and red[1 - axis] == blue[1 - axis]
        assert (page[: red[0][0]].mean(axis=-1) > 0.7).any()
        bare = compare(RED, BLUE, layout)
        assert bare.shape[axis] < page.shape[axis] or bare.shape[1 - axis] < page.shape[1 - axis]


@pytest.mark.parametrize("position", [0.0, 0.25, 1.0])
def test_a_split_is_where_it_is_said(position):
    page = compare(RED, BLUE, "split", position=position)
    assert page.shape == RED.shape
    middle = round(96 * position)
    assert np.all(page[:, : max(0, middle - 1)] == RED[:, : max(0, middle - 1)])
    assert np.all(page[:, middle + 1 :] == BLUE[:, middle + 1 :])


def test_a_difference_is_black_where_nothing_changed():
    assert not compare(RED, RED, "difference").any()
    changed = RED.copy()
    changed[3, 4] = [0.9, 0, 0]
    page = compare(RED, changed, "difference", gain=5)
    assert np.count_nonzero(page.sum(axis=-1)) == 1
    assert page[3, 4] == pytest.approx([0.5, 0, 0], abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiny_images_and_long_names_are_no_trouble(layout):
    tiny = np.zeros((16, 16, 3), np.float32)
    page = compare(tiny, tiny + 1, layout, ("a very long name indeed", "后"))
    assert page.shape[2] == 3 and np.isfinite(page).all()


def test_a_label_is_as_wide_as_it_says():
    short, long = (captions.text_size(text, 20)[0] for text in ("seed 1", "seed 123456"))
    assert 0 < short < long
