"""What processes of a run agree on."""

import torch.distributed as dist

from genhub.training.distributed import is_first_to_fail


def test_of_all_processes_that_fail_the_first_one_says_so(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_to_fail()  # before processes know of each other, only the first of a machine speaks

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert [is_first_to_fail() for _ in range(3)] == [True, False, False]  # as each of three would ask
    finally:
        dist.destroy_process_group()
