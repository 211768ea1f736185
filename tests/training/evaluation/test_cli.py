"""`lit-tf eval` from the command line down, through tfds's own code, against NumPy."""

import argparse
import json
import socket
import urllib.request

import numpy as np
import pytest

from lit_tf import zero_shot
from lit_tf.errors import ConfigError, DataError, LitError
from lit_tf.training.config import load_config
from lit_tf.training.evaluation import cli

from . import tiny_datasets
from .conftest import TEMPLATES, numpy_classes, numpy_recalls


def run(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(a) for a in arguments]))


def figures(path):
    answer = json.loads(path.read_text())
    return {(row["dataset"], row["figure"]): row["measured"] for row in answer["rows"]}


@pytest.fixture
def templates(tmp_path):
    path = tmp_path / "templates.txt"
    path.write_text("\n".join(TEMPLATES) + "\n", encoding="utf-8")
    return path


def test_figures_equal_numpy_on_the_structures_of_four_datasets(
    fixtures, tiny, templates, tmp_path, capsys
):
    out = tmp_path / "out.json"
    status = run(
        fixtures / "lit_bert_tiny.npz",
        "--zero-shot=cifar100,oxford_iiit_pet,imagenet2012",
        "--retrieval=coco_captions",
        f"--templates={templates}",
        f"--data-dir={tiny.data_dir}",
        "--batch-size=8",
        f"--json={out}",
        f"--report={tmp_path / 'report.html'}",
    )
    assert status == 0
    found = figures(out)
    expected = {(name, "accuracy"): value for name, value in tiny.accuracy.items()}
    expected |= {("coco_captions", name): value for name, value in tiny.recalls.items()}
    assert found == expected
    assert all(0.3 < value < 0.9 for value in tiny.accuracy.values())  # neither all nor nothing
    assert 0 < tiny.recalls["img2txt/Recall@10"] < 1
    printed = capsys.readouterr().out
    for name, value in tiny.accuracy.items():
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert f"{100 * value:.2f}" in line
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_part_of_a_split_is_the_same_images(fixtures, tiny, templates, tmp_path):
    parts = []
    for split in ("test[:11]", "test[11:]"):
        out = tmp_path / "out.json"
        run(
            fixtures / "lit_bert_tiny.npz",
            f"--zero-shot=cifar100:{split}",
            f"--templates={templates}",
            f"--data-dir={tiny.data_dir}",
            f"--json={out}",
        )
        parts.append(json.loads(out.read_text())["rows"][0])
    assert [p["images"] for p in parts] == [11, 19]
    right = sum(p["images"] * p["measured"] for p in parts)
    assert right == pytest.approx(30 * tiny.accuracy["cifar100"], abs=1e-9)


def test_class_folders_and_caption_files_are_datasets_too(fixtures, model, tmp_path):
    names = ["a zebra", "traffic_light", "boats"]
    files = {}
    for i in range(12):
        folder = tmp_path / "photos" / names[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        files[folder / f"{i}.png"] = i % 3
        tiny_datasets.save(folder / f"{i}.png", tiny_datasets.picture(i))
    (tmp_path / "photos" / "a zebra" / "notes.txt").write_text("not an image")
    rows = ["caption,image"] + [f'"photo, {i}",{p}' for i, p in enumerate(files)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "out.json"
    run(
        fixtures / "lit_bert_tiny.npz",
        f"--zero-shot={tmp_path / 'photos'}",
        f"--retrieval={tmp_path / 'pairs.csv'}",
        "--templates=clip_best",
        f"--json={out}",
    )
    found = figures(out)
    zimg = model.encode_image(list(files))
    ordered = sorted(names)
    classes = numpy_classes(model, ordered, zero_shot.TEMPLATES["clip_best"])
    labels = np.array([ordered.index(names[k]) for k in files.values()])
    expected = float(((zimg @ classes.T).argmax(axis=1) == labels).mean())
    assert found[("photos", "accuracy")] == expected
    recalls = numpy_recalls(model, zimg, [[f"photo, {i}"] for i in range(12)])
    assert {k: v for (name, k), v in found.items() if name == "pairs"} == recalls
    notes = {r["dataset"]: r["notes"] for r in json.loads(out.read_text())["results"]}
    assert any("notes.txt" in note for note in notes["photos"])


@pytest.mark.parametrize("flag", ["--json", "--report"])
def test_no_output_is_written_over_a_photo_in_a_table(fixtures, tmp_path, flag):
    photo, link = tmp_path / "photos" / "0.png", tmp_path / "out"
    photo.parent.mkdir()
    tiny_datasets.save(photo, tiny_datasets.picture(0))
    link.symlink_to(photo)
    (tmp_path / "pairs.csv").write_text("image,caption\nphotos/0.png,a photo\n")
    before = photo.read_bytes()
    with pytest.raises(
        ConfigError, match=r"out would be written over .*photos/0\.png, which is read"
    ):
        run(fixtures / "lit_bert_tiny.npz", f"--retrieval={tmp_path}/pairs.csv", f"{flag}={link}")
    assert photo.read_bytes() == before


def test_text_embeddings_are_computed_once(fixtures, tiny, templates, monkeypatch):
    from lit_tf.training.evaluation import encoders

    arguments = (
        fixtures / "lit_small_tiny.npz",
        "--zero-shot=cifar100",
        f"--templates={templates}",
        f"--data-dir={tiny.data_dir}",
    )
    calls = []
    original = encoders.KerasEncoder.embed_texts
    monkeypatch.setattr(
        encoders.KerasEncoder,
        "embed_texts",
        lambda self, texts, progress=False: (
            calls.append(len(texts)) or original(self, texts, progress)
        ),
    )
    run(*arguments)
    run(*arguments)
    assert calls == [200]
    templates.write_text("{}\n")
    run(*arguments)
    assert calls == [200, 100]


TINY_CONFIG = """
from lit_tf.training.config import EvalConfig, ModelConfig, TrainConfig, parse_arguments

def get_config(argument=""):
    args = parse_arguments(argument, init="", img_head=False, width=64)
    return TrainConfig(
        name="tiny",
        model=ModelConfig(
            init=args.init or None,
            image=f"patch_size={PATCH},width={args.width},depth=3,num_heads={HEADS},mlp_dim={MLP}",
            text="bert:width=128,depth=2,num_heads=2,mlp_dim=256,vocab_size=1000",
            image_head=args.img_head,
            resolution=32,
        ),
        eval=EvalConfig(zero_shot=("cifar100",), retrieval=("coco_captions",), batch_size=8),
    )
"""


@pytest.fixture
def config_file(model, tmp_path):
    image = model.config.image
    text = TINY_CONFIG.replace("{PATCH}", str(image.patch_size))
    text = text.replace("{HEADS}", str(image.num_heads)).replace("{MLP}", str(image.mlp_dim))
    path = tmp_path / "tiny.py"
    path.write_text(text.replace("width=64", f"width={image.width}"))
    return path


def test_a_config_names_the_checkpoint_and_the_datasets(
    fixtures, tiny, config_file, templates, tmp_path
):
    out = tmp_path / "out.json"
    run(
        f"--config={config_file}:init={fixtures / 'lit_bert_tiny.npz'}",
        f"--templates={templates}",
        f"--data-dir={tiny.data_dir}",
        f"--json={out}",
    )
    expected = {("cifar100", "accuracy"): tiny.accuracy["cifar100"]}
    expected |= {("coco_captions", name): value for name, value in tiny.recalls.items()}
    assert figures(out) == expected


def test_a_config_that_evaluates_nothing_is_tried_on_a_few_images(
    fixtures, config_file, templates, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(cli, "TRIAL", (("cifar100:test[:7]",), ("coco_captions:test[:5]",)))
    # Templates and the data's folder are the config's own, too.
    own = f"templates={str(templates)!r}, data_dir={str(tiny.data_dir)!r}, "
    text = config_file.read_text()
    text = text.replace('zero_shot=("cifar100",), retrieval=("coco_captions",), ', own)
    config_file.write_text(text)
    out = tmp_path / "out.json"
    run(f"--config={config_file}:init={fixtures / 'lit_bert_tiny.npz'}", f"--json={out}")
    found = json.loads(out.read_text())
    assert found["results"][0]["templates"] == str(templates)
    rows = found["rows"]
    assert {(r["dataset"], r["split"]) for r in rows} == {
        ("cifar100", "test[:7]"),
        ("coco_captions", "test[:5]"),
    }
    assert not any(load_config("lit_coco:runlocal").eval.zero_shot)  # one of those


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "without init=CHECKPOINT"),
        ("init=FIXTURE,img_head", "leave out img_head"),
        ("init=FIXTURE,width=96", "image width 96, not 48"),
        ("init=FIXTURE,head", "unknown config argument 'head'"),
    ],
)
def test_a_config_that_is_not_of_the_checkpoint_is_refused(
    fixtures, config_file, argument, message
):
    argument = argument.replace("FIXTURE", str(fixtures / "lit_bert_tiny.npz"))
    with pytest.raises(ConfigError, match=message):
        run(f"--config={config_file}:{argument}")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), ConfigError, "name what to evaluate"),
        (("a.npz", "--tflite=b"), ConfigError, "only one of"),
        (("a.npz", "--json=/nowhere/out.json"), ConfigError, "/nowhere"),
        (("no_such.npz", "--zero-shot=cifar100"), LitError, "no_such"),
        (("FIXTURE", "--zero-shot=cifar101"), DataError, "cifar100"),
        (("FIXTURE", "--zero-shot=cifar100:train"), DataError, "has no split 'train'"),
        (("FIXTURE", "--zero-shot=coco_captions"), DataError, "retrieval"),
        (("FIXTURE", "--retrieval=cifar100"), DataError, "no captions"),
        (("FIXTURE", "--zero-shot=cifar100", "--templates=nope"), DataError, "clip_paper"),
        (("FIXTURE", "--zero-shot=imagenet2012_real"), DataError, "ILSVRC2012_img_val.tar"),
        (("FIXTURE", "--zero-shot=,"), ConfigError, "names of datasets"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(fixtures, tiny, arguments, error, message):
    arguments = [fixtures / "lit_bert_tiny.npz" if a == "FIXTURE" else a for a in arguments]
    with pytest.raises(error, match=message):
        run(*arguments, f"--data-dir={tiny.data_dir}")


def test_manual_download_error_says_which_file_goes_where(fixtures, tmp_path):
    with pytest.raises(DataError) as caught:
        run(fixtures / "lit_bert_tiny.npz", "--zero-shot=imagenet2012", f"--data-dir={tmp_path}")
    assert "ILSVRC2012_img_val.tar" in str(caught.value)
    assert str(tmp_path / "downloads" / "manual") in str(caught.value)


def test_without_a_network_the_error_comes_at_once(fixtures, tmp_path, monkeypatch):
    def no_network(address, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(DataError) as caught:
        run(fixtures / "lit_bert_tiny.npz", "--zero-shot=cifar100", f"--data-dir={tmp_path}")
    for part in ("www.cs.toronto.edu", "no route to host", "tfds build cifar100", str(tmp_path)):
        assert part in str(caught.value)


def test_class_names_that_do_not_fit_are_refused(fixtures, tiny, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {i}" for i in range(99)))
    with pytest.raises(DataError, match="100 classes, but there are 99"):
        run(
            fixtures / "lit_bert_tiny.npz",
            "--zero-shot=cifar100",
            f"--class-names={names}",
            f"--data-dir={tiny.data_dir}",
        )
