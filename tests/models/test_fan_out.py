"""Many videos by many workers: in order, retried when a worker dies, equal to the plain loop."""

import numpy as np
import pytest

from comfyui_spacetime.models.cluster.fan_out import TRIES, Job, Recipe, WorkerLostError, fan_out, jobs_of


class Unruly:
    """Three workers; the last job given is done first, and workers die over some jobs."""

    def __init__(self, deaths):
        self.deaths, self.busy = dict(deaths), []

    def free(self):
        return len(self.busy) < 3

    def start(self, job):
        assert self.free()
        self.busy.append(job)

    def ended(self):
        job = self.busy.pop()
        if self.deaths.get(job.number, 0) > 0:
            self.deaths[job.number] -= 1
            return [(job, WorkerLostError("killed"))]
        return [(job, np.full((1, 2, 2, 3), job.seed, np.uint8))]


def test_jobs_are_prompts_times_seeds_without_empty_lines():
    jobs = jobs_of(["a ball", "  ", "a cube "], 2, first=7)
    assert jobs == [Job(0, "a ball", 7), Job(1, "a ball", 8), Job(2, "a cube", 7), Job(3, "a cube", 8)]
    for prompts, seeds in (([""], 1), (["a"], 0), (["a"] * 101, 100)):
        with pytest.raises(ValueError, match=r"seeds each"):
            jobs_of(prompts, seeds)


@pytest.mark.parametrize("deaths", [{}, {0: 1}, {1: TRIES - 1, 4: 1}])
def test_results_come_in_order_and_lost_jobs_again(deaths):
    seen, jobs = [], jobs_of(["a", "b"], 3)
    results = list(fan_out(Unruly(deaths), jobs, progress=seen.append))
    assert [job for job, _ in results] == jobs
    assert [int(frames.max()) for _, frames in results] == [0, 1, 2, 0, 1, 2]
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_job_that_kills_every_worker_ends_the_batch():
    with pytest.raises(ValueError, match=r'3 workers died over "a" \(killed\)'):
        list(fan_out(Unruly({1: TRIES}), jobs_of(["a"], 2)))


def test_asked_to_stop_it_stops_between_two_looks():
    done = []

    def check():
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fan_out(Unruly({}), jobs_of(["a"], 6), progress=done.append, check=check))
    assert len(done) == 2


def test_a_recipe_says_what_is_wrong():
    with pytest.raises(ValueError, match="multiples of 16"):
        Recipe(width=50)
    with pytest.raises(ValueError, match="0 steps"):
        Recipe(steps=0)
