"""`lit-tf classify`."""

import json

import numpy as np
import pytest

import lit_tf
from lit_tf import cli


def test_classify_answers_as_the_library_does(run, checkpoint, photos, tmp_path):
    names = ["cat", "dog", "red bicycle"]
    (tmp_path / "names").write_text("cat\n\n dog\nred bicycle\n")
    paths = [str(photos / "0.png"), str(photos / "3.png")]
    model = lit_tf.load(checkpoint)
    for classes, templates in (
        ("cat, dog,red bicycle", "clip"),
        (tmp_path / "names", "class_name_only"),
    ):
        found = run(
            *("classify", checkpoint, *paths, "--classes", classes),
            *("--templates", templates, "--json"),
        )
        expected = model.classify(paths, names, templates)
        assert found["classes"] == names
        assert [r["image"] for r in found["results"]] == paths
        probabilities = [r["probabilities"] for r in found["results"]]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert [r["best"] for r in found["results"]] == [names[i] for i in expected.argmax(1)]
    table = run("classify", checkpoint, *paths, "--classes", "cat,dog,red bicycle", "--top", 1)
    lines = table.splitlines()
    expected = model.classify(paths, names)
    for path, line, row in zip(paths, lines[1:], expected, strict=True):
        assert line.startswith(path)
        assert line.endswith(f"{names[row.argmax()]} {100 * row.max():.1f} %")


def test_classify_heeds_the_batch_size(run, checkpoint, photos, monkeypatch):
    sizes = []
    embed = lit_tf.LitModel.embed_stream

    def noting(model, images, batch_size=32, **more):
        sizes.append(batch_size)
        return embed(model, images, batch_size, **more)

    monkeypatch.setattr(lit_tf.LitModel, "embed_stream", noting)
    command = ["classify", checkpoint, photos / "*.png", "--classes", "a,b", "--batch-size"]
    run(*command, 2)
    assert sizes == [2]
    assert "batch_size" in run(*command, 0, code=2)


def test_what_cannot_be_read_is_left_out_and_said(checkpoint, photos, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths = [str(photos / "0.png"), str(tmp_path / "bad.png"), str(photos / "3.png")]
    for command in (
        ["classify", checkpoint, *paths, "--classes", "a,b"],
        ["compare", checkpoint, "--images", *paths, "--texts", "a", "b"],
    ):
        assert cli.main([*command, "--json"]) == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        images = found.get("images") or [result["image"] for result in found["results"]]
        assert images == [paths[0], paths[2]]
        assert [left_out["path"] for left_out in found["left_out"]] == [paths[1]]
        assert err.startswith("left out: ") and "bad.png" in err
        assert cli.main([*command, "--strict"]) == 2
        assert "bad.png" in capsys.readouterr().err


def test_classes_of_equal_names_are_warned_of(run, checkpoint, photos):
    command = ["classify", checkpoint, photos / "0.png", "--json", "--classes"]
    with pytest.warns(UserWarning, match="the same.*: red cat$"):
        found = run(*command, "red cat,dog,Red_cat")
    a, _, b = found["results"][0]["probabilities"]
    assert a == pytest.approx(b) and found["classes"] == ["red cat", "dog", "Red_cat"]


def test_a_file_of_classes_on_one_line_is_refused(run, checkpoint, photos, tmp_path):
    (tmp_path / "names").write_text("cat, dog, bird\n")  # only "cat" would count
    command = ["classify", checkpoint, photos / "0.png", "--classes", tmp_path / "names"]
    assert "one class per line" in run(*command, code=2)


def test_a_file_of_classes_may_begin_with_a_byte_order_mark(run, checkpoint, photos, tmp_path):
    (tmp_path / "names").write_text("cat\ndog\n\n", encoding="utf-8-sig")
    command = ["classify", checkpoint, photos / "0.png", "--json", "--classes", tmp_path / "names"]
    assert run(*command)["classes"] == ["cat", "dog"]
