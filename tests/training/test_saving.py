"""When a checkpoint is due, by a clock that the test turns; what an epoch's end brings comes before its save."""

import math

import pytest

from ftkit.training.saving import Clock


@pytest.mark.parametrize(
    "update, now, update_seconds, is_due",
    [
        (5, 100, 10, False),  # half the interval
        (10, 100, 10, True),  # a tenth of the run
        (5, 589, 10, False),  # after the next update 599 seconds would be lost
        (5, 591, 10, True),
        (1, 1000, 700, True),  # an update that is longer than ten minutes
        (10, 17.9, 1, False),  # saving takes 2 seconds: 18 are trained before the next
        (10, 18, 1, True),
    ],
)
def test_a_save_is_due_after_a_tenth_or_ten_minutes_while_it_takes_a_tenth_of_the_time(
    update, now, update_seconds, is_due
):
    assert Clock(10, save_seconds=2).is_due(update, now, update_seconds) is is_due


@pytest.mark.parametrize(
    "num_updates, update_seconds, save_seconds", [(1000, 1, 5), (40, 300, 60), (5000, 0.1, 30), (30, 2, 30)]
)
def test_over_a_run_little_is_lost_and_saving_stays_under_a_tenth(num_updates, update_seconds, save_seconds):
    clock, now, saving, gaps = Clock(math.ceil(num_updates / 10), save_seconds=save_seconds), 0.0, 0.0, []
    for update in range(1, num_updates + 1):
        now += update_seconds
        if clock.is_due(update, now, update_seconds):
            gaps.append((update - clock.update, now - clock.moment))
            now += save_seconds
            saving += save_seconds
            clock.update, clock.moment = update, now
    assert saving <= 0.1 * now + 1e-6
    for updates, seconds in gaps:
        is_stretched = seconds <= 9 * save_seconds + update_seconds
        assert is_stretched or (updates <= math.ceil(num_updates / 10) and seconds <= 600)
