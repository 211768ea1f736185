"""The notebook runs from its first cell to its last, offline, and is stored without outputs."""

import pathlib

import nbclient
import nbformat
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(name):
    """Runs a notebook; returns it, and what its cells printed."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": EXAMPLES}},
    ).execute()
    return notebook, [text_of(cell) for cell in notebook.cells if cell.cell_type == "code"]


def pictures_of(notebook):
    """How many pictures a notebook that ran shows."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    return sum("image/png" in o.get("data", {}) for o in outputs)


def text_of(cell):
    """What a cell printed."""
    return "".join(out.get("text", "") for out in cell.outputs)


@pytest.mark.full
def test_it_runs_and_tunes_a_model_that_reads():
    notebook, printed = run("lit_tf.ipynb")
    (last,) = [text for text in printed if text.startswith("before")]
    figures = dict(line.rsplit(maxsplit=1) for line in last.splitlines())
    before, after, shipped = (
        float(figures[name].rstrip("%")) for name in ("before", "after", "as shipped")
    )
    assert before <= 5 < after < shipped, last
    assert pictures_of(notebook) == 5  # three images, a heat map, the training curves


@pytest.mark.full
def test_fine_tuning_with_keras_runs():
    notebook, printed = run("finetuning.ipynb")
    head, fit, few, last = printed[1:4] + printed[5:]
    assert float(head.split()[2].rstrip("%,")) > 60 and "2 variables train" in head
    start, end = map(float, fit.removeprefix("recall ").split(" -> "))
    assert end > start + 0.1, fit
    shares = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in few.splitlines()}
    assert shares["mixed"] >= max(shares.values()) - 1, few
    assert float(last.split()[1].rstrip(";")) < 1e-5, last
    assert pictures_of(notebook) == 2


@pytest.mark.parametrize("name", ["lit_tf.ipynb", "finetuning.ipynb"])
def test_it_is_stored_without_outputs(name):
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source[:60]
