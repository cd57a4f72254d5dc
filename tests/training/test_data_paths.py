"""Where the images come from does not change what is learnt from them."""

import torch
from worlds import run, weights

import genhub


def equal(a, b) -> bool:
    a, b = weights(a), weights(b)
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_set_that_is_decoded_while_training_gives_the_bits_of_one_in_memory(tmp_path, tiny):
    memory = genhub.train("ddpm-quick", tmp_path / "memory", overrides=tiny)

    lazy = genhub.train("ddpm-quick", tmp_path / "lazy", overrides=tiny | {"data.memory_limit_gb": 1e-9})

    assert equal(memory, lazy)


def test_a_streamed_set_is_the_same_for_two_processes_and_after_a_resume(tmp_path, tiny):
    tiny |= {"data.streaming": True, "data.shuffle_buffer": 16, "training.max_steps": 10}
    tiny |= {"optimizers.unet.schedule": None}  # one that ends with the run would end elsewhere

    def action(name, steps, resume=False):
        return lambda: genhub.train("ddpm-quick", tmp_path / name, resume, tiny | {"training.max_steps": steps})

    for name, processes in (("one", 1), ("two", 2)):
        codes = run(action(name, 10), processes, tmp_path / "log")
        assert codes == [0] * processes, (tmp_path / "log").read_text()
    assert run(action("halted", 4), 1, tmp_path / "log") == [0]
    assert run(action("halted", 10, True), 1, tmp_path / "log") == [0], (tmp_path / "log").read_text()

    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], rtol=0, atol=1e-5) for name in one)
    assert equal(tmp_path / "one", tmp_path / "halted")
