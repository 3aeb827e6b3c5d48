"""Runs that end by the clock, and batches that are made ahead."""

from __future__ import annotations

import threading
import time

import pytest

from comfyui_spacetime.models.training.run.ahead import ahead
from comfyui_spacetime.models.training.run.pace import Pace


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_is_made_ahead_comes_in_order_and_equal(threads):
    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))  # so that later ones are ready first
        return number * number

    assert list(ahead(make, range(20), threads=threads)) == [number * number for number in range(20)]


def test_as_many_are_made_ahead_as_there_are_threads_and_no_more():
    made: list[int] = []
    items = ahead(lambda number: made.append(number) or number, range(1000), threads=2)
    assert next(items) == 0
    time.sleep(0.05)
    assert set(made) <= {0, 1, 2, 3}
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_an_error_comes_at_its_turn():
    def make(number: int) -> int:
        if number == 3:
            raise ValueError("no such clip")
        return number

    items = ahead(make, range(10), threads=2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no such clip"):
        next(items)


def test_without_minutes_a_run_makes_all_its_steps_each_at_its_place():
    pace = Pace(5)
    assert [step for step in pace(2) if not pace.ends(step + 1) or True] == [2, 3, 4]
    assert [pace.at(step) for step in range(5)] == list(range(5))


def test_a_run_that_is_too_slow_ends_with_its_minutes_and_its_learning_rate_follows():
    clock = Clock()
    pace = Pace(1000, minutes=1, clock=clock)
    places = []
    for step in pace(0):
        places.append(pace.at(step))
        clock.now += 10
        pace.ends(step + 1)
    assert places == [0, 166, 333, 500, 666, 833]
    assert pace.over


def test_a_fast_run_does_not_wait_for_the_clock():
    clock = Clock()
    pace = Pace(3, minutes=60, clock=clock)
    made = []
    for step in pace(0):
        made.append(step)
        pace.ends(step + 1)
    assert made == [0, 1, 2]
