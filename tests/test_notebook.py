"""The notebook runs from its first cell to its last, offline, and is stored without outputs."""

import pathlib

import nbclient
import nbformat
import pytest

NOTEBOOK = pathlib.Path(__file__).parents[1] / "examples" / "lit_tf.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def text_of(cell):
    """What a cell printed."""
    return "".join(out.get("text", "") for out in cell.outputs)


@pytest.mark.full
def test_it_runs_and_tunes_a_model_that_reads(notebook):
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": NOTEBOOK.parent}},
    ).execute()
    printed = {cell.id: text_of(cell) for cell in notebook.cells if cell.cell_type == "code"}
    (last,) = [text for text in printed.values() if text.startswith("before")]
    figures = dict(line.rsplit(maxsplit=1) for line in last.splitlines())
    before, after, shipped = (
        float(figures[name].rstrip("%")) for name in ("before", "after", "as shipped")
    )
    assert before <= 5 < after < shipped, last
    pictures = [
        o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 5  # three images, a heat map, the training curves


def test_it_is_stored_without_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source[:60]
