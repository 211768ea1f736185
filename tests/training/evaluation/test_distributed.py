"""Several replicas give one replica's results, to the last example."""

import numpy as np
import pytest

from ...processes import finish, launch, worker, worker_environments
from . import tiny_datasets

# The trainer's numbers on several replicas are compared by quick tests.
pytestmark = pytest.mark.full


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
    """{replicas: arrays}, on one and on two."""
    return evaluate(fixtures, tmp_path_factory.mktemp("distributed"), 1, 2)


def evaluate(fixtures, folder, *replicas):
    write_pictures(folder / "photos")
    finish(launch(worker("evaluate", fixtures / "lit_bert_tiny.npz", folder, *replicas)))
    return {n: dict(np.load(folder / f"{n}.npz")) for n in replicas}


def run_together(commands, environments=(None, None)):
    """Runs processes side by side until all have ended well."""
    processes = [launch(c, env) for c, env in zip(commands, environments, strict=True)]
    try:
        for process in processes:
            finish(process)
    finally:
        for process in processes:
            process.kill()


def assert_same(many, one):
    assert set(one) == set(many)
    for key in set(one) - {"replicas"}:
        if key in ("zimg", "ztxt"):  # another batch shape may add up in another order
            np.testing.assert_allclose(many[key], one[key], rtol=0, atol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(many[key], one[key], err_msg=key)


@pytest.mark.parametrize("replicas", [2, 4])
def test_results_equal_one_replicas_to_the_last_example(results, replicas, fixtures, tmp_path):
    many = results if replicas in results else evaluate(fixtures, tmp_path, replicas)
    assert int(many[replicas]["replicas"]) == replicas
    assert_same(many[replicas], results[1])


def test_two_workers_share_the_work_and_both_have_all_results(results, fixtures, tmp_path):
    write_pictures(tmp_path / "photos")
    command = worker("evaluate", fixtures / "lit_bert_tiny.npz", tmp_path, "2")
    run_together([command, command], worker_environments(2))
    for i in range(2):
        found = dict(np.load(tmp_path / f"worker{i}.npz"))
        assert int(found["replicas"]) == 2
        assert_same(found, results[1])


def test_padding_and_unreadable_images_never_count(results):
    for arrays in results.values():
        # 23 images of which number 7 is broken, over batches of 8: neither divides the other.
        assert np.flatnonzero(~arrays["readable"]).tolist() == [7]
        assert len(arrays["predictions"]) == 22
        norms = np.linalg.norm(arrays["zimg"], axis=1)
        np.testing.assert_allclose(np.delete(norms, 7), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(arrays["ztxt"], axis=1), 1, atol=1e-5)
