"""Several replicas give one replica's results, to the last example."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from . import tiny_datasets

WORKER = pathlib.Path(__file__).with_name("distributed_worker.py")


def write_pictures(folder):
    """23 images in class folders, number 7 broken, and a file with 1 to 3 captions of each."""
    rows = ["image,caption"]
    for i in range(23):
        path = folder / ("cat" if i < 12 else "dog") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_datasets.save(path, tiny_datasets.picture(i))
        rows += [f"{path},caption {i} {k}" for k in range(1 + i % 3)]
    (folder / "cat" / "07.png").write_bytes(b"broken")
    (folder / "pairs.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def results(fixtures, tmp_path_factory):
    """{replicas: arrays}."""
    folder = tmp_path_factory.mktemp("distributed")
    write_pictures(folder / "photos")
    command = [sys.executable, WORKER, fixtures / "lit_bert_tiny.npz", folder]
    processes = [
        subprocess.Popen([*command, *counts], stderr=subprocess.PIPE, text=True)
        for counts in (("1", "2"), ("4",))
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]
    return {n: dict(np.load(folder / f"{n}.npz")) for n in (1, 2, 4)}


@pytest.mark.parametrize("replicas", [2, 4])
def test_results_equal_one_replicas_to_the_last_example(results, replicas):
    one, many = results[1], results[replicas]
    assert int(many["replicas"]) == replicas
    assert set(one) == set(many)
    for key in one:
        if key == "replicas":
            continue
        if key in ("zimg", "ztxt"):  # another batch shape may add up in another order
            np.testing.assert_allclose(many[key], one[key], rtol=0, atol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(many[key], one[key], err_msg=key)


def test_padding_and_unreadable_images_never_count(results):
    for arrays in results.values():
        # 23 images of which number 7 is broken, over batches of 8: neither divides the other.
        assert np.flatnonzero(~arrays["readable"]).tolist() == [7]
        assert len(arrays["predictions"]) == 22
        norms = np.linalg.norm(arrays["zimg"], axis=1)
        np.testing.assert_allclose(np.delete(norms, 7), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(arrays["ztxt"], axis=1), 1, atol=1e-5)
