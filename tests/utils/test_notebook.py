"""genhub in a notebook: training shows itself and can be stopped, and what was the caller's stays so."""

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

import genhub
from genhub.utils.notebook import in_notebook

TINY = {"data": {"source": "sample", "val_size": 16}, "training": {"max_steps": 3, "batch_size": 16}}
IMPORTS = "import genhub, os, signal, threading, time\nfrom pathlib import Path"


def run(*cells, folder):
    """The outputs of cells in a kernel that runs in `folder`."""
    import nbclient
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell["outputs"] for cell in book["cells"]]


def text(outputs):
    return "".join(output.get("text", "") for output in outputs)


def test_these_tests_run_in_no_notebook():
    assert not in_notebook()


@pytest.mark.parametrize("has_own", [True, False])
def test_training_leaves_the_callers_accelerator_as_it_was(has_own, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    own = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3) if has_own else None
    before = [dict(kind._shared_state) for kind in (AcceleratorState, PartialState)]

    folder = genhub.train("stacked-ae", tmp_path / "run", **TINY)

    assert folder._repr_html_()
    assert [dict(kind._shared_state) for kind in (AcceleratorState, PartialState)] == before
    if own:
        assert (own.mixed_precision, own.gradient_accumulation_steps) == ("bf16", 3)
        assert own.gradient_state.num_steps == 3
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_a_kernel_trains_shows_and_stops_with_a_checkpoint(tmp_path):
    stop = f"""
def interrupt():
    while not Path("long/training/metrics.jsonl").is_file():
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
stopped = genhub.train("stacked-ae", "long", data={TINY["data"]}, training={{"epochs": 10**6, "log_every": 1}})
stopped
"""

    trained, stopped, checks = run(
        f"{IMPORTS}\ngenhub.train('stacked-ae', 'run', **{TINY})",
        stop,
        "print(stopped.stopped, *Path('long/training').rglob('step-*'))",
        folder=tmp_path,
    )

    assert "data:image/png" in trained[-1]["data"]["text/html"]
    assert text(trained).count("Training on 1 process(es)") == 1
    assert "Stopped by SIGINT" in stopped[-1]["data"]["text/html"]
    assert "Stopped by SIGINT" in text(checks)
    assert "step-" in text(checks)


@pytest.mark.slow
def test_two_processes_of_a_notebook_launcher_train_after_a_run_of_the_kernel(tmp_path):
    overrides = {f"{section}.{key}": value for section, values in TINY.items() for key, value in values.items()}

    outputs = run(
        f"{IMPORTS}\ngenhub.train('stacked-ae', 'one', **{TINY})",
        "os.environ |= {'ACCELERATE_USE_CPU': 'true', 'OMP_NUM_THREADS': '1'}\n"
        "from accelerate import notebook_launcher\n"
        f"notebook_launcher(genhub.train, ('stacked-ae', 'two', False, {overrides}), num_processes=2)",
        "print(Path('two/model_index.json').is_file())",
        folder=tmp_path,
    )

    assert "Training on 2 process(es)" in text(outputs[1])
    assert text(outputs[2]).strip() == "True"
