"""Evaluation mode ends where it began, and a limit is one of its own thread."""

from threading import Thread

from torch import nn

from genhub.utils.modules import at_most, evaluation_mode


def test_parts_that_are_not_trained_stay_in_evaluation_mode():
    frozen, trained = nn.Sequential(nn.Dropout()).eval(), nn.Linear(1, 1)
    module = nn.ModuleList([trained, frozen])  # a root in training mode with a frozen part

    with evaluation_mode([module]):
        assert not any(part.training for part in module.modules())

    assert [part.training for part in (module, trained, frozen, frozen[0])] == [True, True, False, False]


def test_what_another_thread_builds_counts_nothing():
    with at_most(9, 10**6):
        other = Thread(target=lambda: [nn.Linear(1, 1) for _ in range(10)])
        other.start()
        other.join()
        nn.Linear(1, 1)
