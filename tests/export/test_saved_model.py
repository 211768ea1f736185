"""SavedModels: equal to the model, alone in a process, and upright under bad input."""

import errno
import io
import json
import os
import pathlib
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf import saved_model_pb2

import lit_tf
from lit_tf import files
from lit_tf.cli import main
from lit_tf.errors import ConfigError, ExportError
from lit_tf.export import manifest, samples, saved_model, to_saved_model, verify, warmup
from lit_tf.files import sha256
from lit_tf.serialized import UNUSED_BY_KERAS

from ..conftest import without_verification
from ..processes import finish, launch, worker

# Both kinds of text tower, with and without an image head, with and without a bias.
NAMES = (
    "lit_bert_tiny",
    pytest.param("lit_bert_head_tiny", marks=pytest.mark.full),
    pytest.param("lit_tt_tiny", marks=pytest.mark.full),
    pytest.param("lit_small_tiny", marks=pytest.mark.full),
    pytest.param("bv_checkpoint_tiny", marks=pytest.mark.full),
)
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np, tensorflow as tf
"""


def alone(code, *blocked):
    """Runs code in a process where some packages cannot be imported; returns what it prints."""
    blocked = (*blocked, *UNUSED_BY_KERAS)  # a server lacks these too; Keras starts sooner
    code = f"BLOCKED = {blocked!r}\n{ALONE}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tiny(exported):
    model, folder, _ = exported("lit_bert_tiny")
    return model, tf.saved_model.load(str(folder)), folder


@pytest.fixture(scope="module")
def classifier(fixtures, tmp_path_factory):
    """A folder with baked-in classes, by the command line."""
    folder = tmp_path_factory.mktemp("classifier")
    (folder / "classes.txt").write_text("cat\n dog\nboat\n\n", encoding="utf-8-sig")
    command = ["export", str(fixtures / "lit_bert_tiny.npz"), str(folder / "1"), "--saved-model"]
    command += ["--json"]
    with without_verification():
        assert main([*command, "--classes", str(folder / "classes.txt")]) == 0
    return folder / "1"


@pytest.mark.parametrize("name", NAMES)
def test_every_fixture_answers_as_the_reference(exported, name, reference, fixture_module):
    _, folder, parity = exported(name)
    assert all(v["max_abs_difference"] <= 1e-5 for k, v in parity.items() if "embedding" in k)
    served = tf.saved_model.load(str(folder))
    want = reference("towers")
    texts, ids = (
        (fixture_module.sp_texts(), want["sp_tokens"])
        if name == "lit_tt_tiny"
        else (fixture_module.TEXTS, want["bert_tokens"])
    )
    encoded = [tf.io.encode_png(i).numpy() for i in fixture_module.images()]
    zimg = served.encode_image_bytes(tf.constant(encoded)).numpy()
    np.testing.assert_allclose(zimg, want[f"{name}/zimg"], atol=1e-5)
    ztxt = served.encode_text(tf.constant(texts)).numpy()
    np.testing.assert_allclose(ztxt, want[f"{name}/ztxt"], atol=1e-5)
    ztok = served.encode_tokens(tf.constant(ids.astype(np.int32))).numpy()
    np.testing.assert_allclose(ztok, want[f"{name}/ztxt"], atol=1e-5)
    logits = served.compare(tf.constant(encoded), tf.constant(texts))["logits"].numpy()
    np.testing.assert_allclose(logits, want[f"{name}/logits"], atol=4e-4)  # 40 x 1e-5


def text_operations(folder):
    """Returns the names of tensorflow-text's operations in a SavedModel's graph."""
    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    marks = ("TFText", "Sentencepiece", "Wordpiece", "CaseFoldUTF8", "NormalizeUTF8", "RegexSplit")
    return {node.op for node in nodes if any(mark in node.op for mark in marks)}


def test_lit_tf_is_not_needed_and_a_classifier_needs_nothing_but_tensorflow(
    exported, classifier, tmp_path
):
    model, folder, _ = exported("lit_bert_tiny")
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert not text_operations(classifier)
    picture = samples.sample_images(32, 1)[0]
    (classifier.parent / "x.png").write_bytes(tf.io.encode_png(picture).numpy())
    out = alone(
        f"m = tf.saved_model.load({str(classifier)!r})\n"
        f"r = m.classify(tf.constant([open({str(classifier.parent / 'x.png')!r}, 'rb').read()]))\n"
        "print(r['classes'].numpy()[0].tolist(), r['scores'].numpy()[0].tolist(), sep='|')\n"
        f"BLOCKED = ('lit_tf',)\nimport tensorflow_text\nm = tf.saved_model.load({str(moved)!r})\n"
        "z = m.encode_text(tf.constant(['a cat'])).numpy()[0, :3].tolist()\n"
        "print(z, float(m.temperature))",
        "lit_tf",
        "tensorflow_text",
    )
    first, second = out.splitlines()
    z, temperature = second.rsplit(" ", 1)
    np.testing.assert_allclose(json.loads(z), model.encode_text(["a cat"])[0, :3], atol=1e-5)
    assert float(temperature) == pytest.approx(model.temperature, rel=1e-6)
    names, scores = first.split("|")
    want = model.classify([picture], ["cat", "dog", "boat"])[0]
    order = np.argsort(-want)
    assert [n.decode() for n in eval(names)] == [["cat", "dog", "boat"][i] for i in order]
    np.testing.assert_allclose(json.loads(scores), want[order], atol=1e-5)
    size = sum(f.stat().st_size for f in classifier.rglob("variables.data*"))
    image = sum(v.value.shape.num_elements() for v in model.image_tower.variables)
    assert size < 4 * image + 10_000  # the text tower is not in the file


@pytest.fixture
def unverified():
    with without_verification():
        yield


@pytest.mark.usefixtures("unverified")
def test_graphs_without_strings_hold_no_tensorflow_text_operation(exported, tmp_path):
    model, folder, _ = exported("lit_bert_tiny")
    assert text_operations(folder)  # the test can fail
    for part in ("image", "tokens"):
        saved_model(model, tmp_path / part, parts=(part,))
        assert not text_operations(tmp_path / part)
        assert json.loads((tmp_path / part / "lit_manifest.json").read_text())["needs"] == [
            "tensorflow"
        ]


def fields(data):
    """Returns [(number, value)] of a protocol buffer."""
    return [(field.field_number, field.data) for field in UnknownFieldSet(Empty.FromString(data))]


def test_warm_up_requests_fit_the_signatures(tiny):
    _, served, folder = tiny
    served, sent = served.signatures, set()
    for record in tf.data.TFRecordDataset(str(folder / warmup.FILE)):
        ((_, log),) = fields(record.numpy())  # predict_log
        ((_, request),) = fields(log)
        ((_, spec), *inputs) = fields(request)
        ((number, name),) = fields(spec)
        arguments = {}
        for _, entry in inputs:
            (_, key), (_, value) = fields(entry)
            arguments[key.decode()] = tf.constant(tf.make_ndarray(TensorProto.FromString(value)))
        assert number == 3 and served[name.decode()](**arguments)
        sent.add(name.decode())
    assert sent == set(served)


def test_what_others_put_into_assets_extra_is_kept(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "assets.extra").mkdir(parents=True)
        (folder / warmup.FILE).write_text(folder.name)
    (old / "assets.extra/more").write_text("theirs")
    (old / manifest.NAME).write_text(json.dumps({"warmup": sha256(old / warmup.FILE)}))
    warmup.keep_extras(old, new)
    assert (new / warmup.FILE).read_text() == "new"
    assert (new / "assets.extra/more").read_text() == "theirs"
    (old / warmup.FILE).write_text("of real traffic")
    warmup.keep_extras(old, new)
    assert (new / warmup.FILE).read_text() == "of real traffic"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lit_bert_tiny", "vocab.txt"),
        pytest.param("lit_tt_tiny", "vocab.model", marks=pytest.mark.full),
    ],
)
def test_vocabulary_is_an_asset(exported, name, file):
    model, folder = exported(name)[:2]
    lowercase = json.loads((folder / manifest.NAME).read_text())["lowercase"]
    assert lowercase == model.tokenizer.lowercase == (file == "vocab.txt")
    (asset,) = (folder / "assets").iterdir()
    assert asset.name == file and asset.read_bytes() == model.tokenizer.to_bytes()


def test_other_batch_sizes_do_not_retrace(tiny):
    served = tiny[1]
    concrete = served.encode_tokens.concrete_functions
    for n in (1, 3, 7):
        assert served.encode_tokens(tf.zeros([n, 16], tf.int32)).shape[0] == n
    assert served.encode_tokens.concrete_functions == concrete and len(concrete) == 1
    assert served.signatures["encode_image"].inputs[0].shape.as_list() == [None, None, None, 3]


def test_works_as_a_layer_of_keras(tiny):
    model, _, folder = tiny
    layer = keras.layers.TFSMLayer(str(folder), call_endpoint="encode_image")
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    outer = keras.Model(inputs, layer(inputs))
    pixels = samples.resized(model, samples.sample_images(32, 2))
    np.testing.assert_allclose(outer(pixels), model.encode_image(pixels), atol=1e-5)


def test_all_signatures_are_there(tiny):
    assert set(tiny[1].signatures) == {
        "encode_image",
        "encode_image_bytes",
        "encode_text",
        "encode_tokens",
        "compare",
        "serving_default",
    }


@pytest.mark.full
def test_the_command_line_tool_lists_them(tiny):
    tool = os.path.join(os.path.dirname(sys.executable), "saved_model_cli")
    done = subprocess.run(
        [tool, "show", "--dir", str(tiny[2]), "--tag_set", "serve", "--signature_def", "compare"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("image_bytes", "text", "logits", "probabilities", "DT_STRING", "DT_FLOAT"):
        assert name in done.stdout


def encoded(picture, form, orientation=1):
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, form, exif=tags.tobytes())
    return buffer.getvalue()


def test_jpegs_pngs_and_webps_give_what_the_library_gives_and_others_are_refused(tiny):
    model, served, folder = tiny
    picture = samples.sample_images(40, 1)[0][:30]
    files = [encoded(picture, "JPEG", orientation) for orientation in range(1, 9)]
    files += [encoded(picture, form) for form in ("PNG", "WEBP")]
    z = served.encode_image_bytes(tf.constant(files)).numpy()
    np.testing.assert_allclose(z, model.encode_image(files), atol=1e-5)
    assert json.loads((folder / "lit_manifest.json").read_text())["exif"] is True
    for form in ("BMP", "GIF", "TIFF"):
        buffer = io.BytesIO()
        PIL.Image.fromarray(picture).save(buffer, form)
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected JPEG, PNG or WebP"):
            served.encode_image_bytes(tf.constant([buffer.getvalue()]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected JPEG, PNG or WebP"):
        served.encode_image_bytes(tf.constant([b"RIFF\0\0\0\0AVI LIST" + bytes(99)]))


@pytest.mark.usefixtures("unverified")
def test_the_published_protocol_turns_nothing(fixtures, tmp_path):
    command = ["export", str(fixtures / "lit_bert_tiny.npz"), str(tmp_path / "1"), "--json"]
    assert main([*command, "--saved-model", "--parts", "image", "--no-exif"]) == 0
    assert json.loads((tmp_path / "1/lit_manifest.json").read_text())["exif"] is False
    served = tf.saved_model.load(str(tmp_path / "1"))
    picture = samples.sample_images(40, 1)[0]
    files = [encoded(picture, "JPEG", orientation) for orientation in (1, 6)]
    upright, turned = served.encode_image_bytes(tf.constant(files)).numpy()
    np.testing.assert_allclose(upright, turned, atol=1e-5)
    assert main([*command, "--tflite", "--no-exif"]) == 2


def test_corrupt_images_are_refused_with_their_place(tiny):
    served = tiny[1]
    good = tf.io.encode_jpeg(samples.sample_images(40, 1)[0]).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"positions(.|\n)*\[?1 3"):
        served.encode_image_bytes(tf.constant([good, b"no image", good, b""]))
    for size in (len(good) // 2, len(good) - 2):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"cut off at(.|\n)*\[?1 2\]"):
            served.encode_image_bytes(tf.constant([good, good[:size], good[:4], good]))
    broken = good[:30] + bytes(len(good) - 60) + good[-30:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid JPEG"):
        served.encode_image_bytes(tf.constant([good, broken]))
    # Bytes after the end, which cameras and servers like to add, harm nobody.
    taken = served.encode_image_bytes(tf.constant([good, good + b"\0\0"]))
    np.testing.assert_allclose(taken[1], taken[0], atol=1e-6)


def test_extreme_inputs_give_sane_embeddings(tiny):
    served = tiny[1]

    def sane(z, n):
        assert z.shape[0] == n and np.isfinite(z).all()
        np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-5)

    large = tf.io.encode_jpeg(tf.zeros([4000, 6000, 3], tf.uint8)).numpy()
    dot = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8)).numpy()
    sane(served.encode_image_bytes(tf.constant([dot, large])).numpy(), 2)
    sane(served.encode_image(tf.zeros([2, 1, 1, 3], tf.uint8)).numpy(), 2)
    texts = [b"word " * 200_000, b"x" * 1_000_000, b"\xff\xfe\x80 cat", b"", b"\x00"]
    sane(served.encode_text(tf.constant(texts)).numpy(), len(texts))


def test_empty_batches_give_empty_answers(tiny):
    served = tiny[1]
    none = tf.zeros([0], tf.string)
    assert served.encode_image_bytes(none).shape == (0, 48)
    assert served.encode_image(tf.zeros([0, 9, 9, 3], tf.uint8)).shape == (0, 48)
    assert served.encode_text(none).shape == (0, 48)
    assert served.encode_tokens(tf.zeros([0, 16], tf.int32)).shape == (0, 48)
    answer = served.compare(none, tf.constant(["a", "b"]))
    assert answer["logits"].shape == answer["probabilities"].shape == (0, 2)


@pytest.mark.full
def test_bfloat16_halves_the_file_and_stays_close(exported, tmp_path):
    model, folder, _ = exported("lit_bert_tiny")
    saved_model(model, tmp_path / "half", dtype="bfloat16")
    size = lambda f: (f / "variables" / "variables.data-00000-of-00001").stat().st_size  # noqa: E731
    assert size(tmp_path / "half") < 0.55 * size(folder)


def test_manifest_says_what_was_exported(exported, fixtures, classifier):
    import hashlib

    written = json.loads((exported("lit_bert_tiny")[1] / "lit_manifest.json").read_text())
    data = (fixtures / "lit_bert_tiny.npz").read_bytes()
    assert written["checkpoint_sha256"] == hashlib.sha256(data).hexdigest()
    assert written["model"] == "lit_bert_tiny" and written["resolution"] == 32
    assert written["signatures"]["compare"]["outputs"]["logits"] == "float32 [N, N]"
    assert written["parity"] and written["dtype"] == "float32" and written["versions"]["keras"]
    baked = json.loads((classifier / "lit_manifest.json").read_text())
    assert baked["classes"] == ["cat", "dog", "boat"] and len(baked["templates"]) == 8


def test_a_wrong_or_interrupted_export_leaves_the_old_one(exported, tmp_path, monkeypatch):
    model = exported("lit_bert_tiny")[0]
    out = tmp_path / "out"
    out.mkdir()
    (out / "lit_manifest.json").write_text("{}")

    def differs(kind, path, inputs):
        found, record = verify._saved_model(str(path), inputs)
        return {k: v + np.float32(1e-3) for k, v in found.items()}, record

    def interrupted(*args):
        raise KeyboardInterrupt

    for broken, error in ((differs, ExportError), (interrupted, KeyboardInterrupt)):
        monkeypatch.setattr(to_saved_model.verify, "run_in_process", broken)
        with pytest.raises(error):
            saved_model(model, out, parts=("tokens",))
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
        assert (out / "lit_manifest.json").read_text() == "{}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps folders in one step")
def test_a_process_killed_while_it_replaces_leaves_a_whole_folder(tmp_path):
    finish(launch(worker("replace_folder", tmp_path)))
    left = {
        m: (tmp_path / m / "lit_manifest.json").read_text() for m in ("before", "within", "after")
    }
    assert left == {"before": "old", "within": "new", "after": "new"}
    # What the killed ones left beside it is removed by the next export to that place.
    assert len(list(tmp_path.glob(".*.partial"))) == 3
    for moment in left:
        with manifest.replacing_export(tmp_path / moment):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(left)


def test_what_a_living_export_has_written_so_far_is_left_alone(tmp_path):
    with manifest.replacing_export(tmp_path / "out") as first:
        (first / manifest.NAME).write_text("first")
        with manifest.replacing_export(tmp_path / "out") as second:
            (second / manifest.NAME).write_text("second")
        assert (first / manifest.NAME).read_text() == "first"
    assert (tmp_path / "out" / manifest.NAME).read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("system", ["this one", "one that cannot swap"])
def test_the_new_folder_takes_the_place_of_the_old_one(tmp_path, monkeypatch, system):
    if system != "this one":
        monkeypatch.setattr(files.sys, "platform", "other")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/lit_manifest.json").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with manifest.replacing_export(tmp_path / "link") as folder:
        (folder / "lit_manifest.json").write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "link").is_symlink()
    assert [p.read_text() for p in (tmp_path / "real").iterdir()] == ["new"]


def test_what_was_not_exported_is_never_replaced(exported, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="not written by lit-tf export"):
        saved_model(exported("lit_bert_tiny")[0], tmp_path, parts=("image",))
    assert (tmp_path / "thesis.txt").exists()


def test_impossible_requests_are_refused_by_name(fixtures, exported, tmp_path):
    model = exported("lit_bert_tiny")[0]
    for match, arguments in {
        "parts must be": {"parts": ("sound",)},
    }.items():
        with pytest.raises(ExportError, match=match):
            saved_model(model, tmp_path / "x", **arguments)
    vit = lit_tf.load(fixtures / "vit_upstream_tiny.npz")
    with pytest.raises(ExportError, match="no text tower"):
        saved_model(vit, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_classes_of_equal_names_are_exported_with_a_warning(exported):
    model = exported("lit_bert_tiny")[0]
    with pytest.warns(UserWarning, match="the same.*: cat$"):
        names, z = manifest.read_classes(model, ["cat", "Cat ", "dog"], "class_name_only")
    assert names == ["cat", "Cat", "dog"]
    np.testing.assert_array_equal(z[0], z[1])


def test_a_dtype_that_is_none_is_refused_before_anything_is_written(exported, tmp_path):
    with pytest.raises(ConfigError, match="dtype 'float99'"):
        saved_model(exported("lit_bert_tiny")[0], tmp_path / "x", dtype="float99")
    assert not list(tmp_path.iterdir())


def test_an_export_to_a_full_disk_is_named_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "out"
    with manifest.replacing_export(path) as folder:
        (folder / manifest.NAME).write_text("old")
    errors = [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        tf.errors.ResourceExhaustedError(None, None, "variables; No space left on device"),
        RuntimeError("failed alone: OSError: [Errno 28] No space left on device"),
    ]
    for error in errors:
        with pytest.raises(ExportError, match="out cannot be written: No space left on device"):
            with manifest.replacing_export(path) as folder:
                (folder / manifest.NAME).write_text("new")
                raise error
        assert (path / manifest.NAME).read_text() == "old" and os.listdir(tmp_path) == ["out"]
    with pytest.raises(ValueError), manifest.replacing_export(path):  # not about the disk
        raise ValueError


def test_the_command_line_says_which_files_are_missing(fixtures, tmp_path, capsys):
    command = ["export", str(fixtures / "lit_bert_tiny.npz"), str(tmp_path / "out")]
    assert main([*command, "--saved-model", "--classes", str(tmp_path / "none.txt")]) == 2
    assert main([*command, "--tflite", "--calibration", str(tmp_path / "no*.png")]) == 2
    assert "no file has this name" in capsys.readouterr().err


def test_the_example_serves_and_its_request_fits_the_signature(tiny, tmp_path, monkeypatch, capsys):
    model, served, folder = tiny
    picture = tmp_path / "x.png"
    picture.write_bytes(tf.io.encode_png(samples.sample_images(40, 1)[0]).numpy())
    script = os.path.join(os.path.dirname(__file__), "../../examples/serve_saved_model.py")
    command = [script, str(folder), str(picture), "a cat", "a dog"]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(script, run_name="__main__")
    out = capsys.readouterr().out
    assert [line.split("  ")[-1] for line in out.splitlines()] == ["a cat", "a dog"]
    monkeypatch.setattr(sys, "argv", [*command, "--serve"])
    runpy.run_path(script, run_name="__main__")
    body = json.loads(capsys.readouterr().out)
    signature = served.signatures[body["signature_name"]]
    assert set(body["inputs"]) == set(signature.structured_input_signature[1])
    import base64

    data = [base64.b64decode(x["b64"]) for x in body["inputs"]["image_bytes"]]
    answer = signature(image_bytes=tf.constant(data), text=tf.constant(body["inputs"]["text"]))
    percent = float(out.split("%")[0]) / 100
    assert answer["probabilities"].numpy()[0, 0] == pytest.approx(percent, abs=1e-3)


def test_the_request_in_the_readme_fits_the_signature(tiny):
    import base64
    import pathlib
    import re

    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"curl -d '(\{.*?\})' *\\", readme, re.DOTALL)
    png = tf.io.encode_png(samples.sample_images(40, 1)[0]).numpy()
    body = re.sub(r"'\$\(base64 -w0 \S+\)'", base64.b64encode(png).decode(), body)
    body = json.loads(body)
    signature = tiny[1].signatures[body["signature_name"]]
    (name,) = signature.structured_input_signature[1]
    assert name.endswith("_bytes")  # how the REST interface knows to decode base64
    data = [base64.b64decode(row[name]["b64"]) for row in body["instances"]]
    assert all(set(row) == {name} for row in body["instances"])
    assert signature(**{name: tf.constant(data)})["embedding"].shape == (1, 48)


@pytest.fixture(scope="module")
def c_client(tmp_path_factory):
    """`examples/serve_saved_model.c`, compiled against what pip's TensorFlow ships."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    program = tmp_path_factory.mktemp("c") / "serve"
    lib = tf.sysconfig.get_lib()
    source = pathlib.Path(__file__).parents[2] / "examples" / "serve_saved_model.c"
    subprocess.run(
        [
            *("gcc", "-Wall", "-Werror", "-o", program, source),
            *(f"-I{lib}/include", f"-L{lib}", f"-Wl,-rpath,{lib}"),
            *("-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"),
        ],
        check=True,
    )
    return program


@pytest.mark.full  # its compiler reads all of TensorFlow's headers
@pytest.mark.parametrize("name", ["lit_bert_tiny", "lit_tt_tiny"])
def test_a_program_in_c_gets_the_same_answers(exported, c_client, fixture_module, tmp_path, name):
    import tensorflow_text

    def ask(*arguments):
        done = subprocess.run(
            [c_client, folder, picture, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    model, folder, _ = exported(name)
    picture = tmp_path / "0.png"
    picture.write_bytes(tf.io.encode_png(fixture_module.images()[0]).numpy())
    operations = pathlib.Path(tensorflow_text.__path__[0]) / "python" / "ops"
    zimg = model.encode_image([picture])
    np.testing.assert_allclose([float(x) for x in ask(operations)], zimg[0], atol=1e-5)
    texts = ["a photo of a cat", "two dogs", "größer"]
    lines = [line.split("  ", 1) for line in ask(operations, *texts)]
    assert [text for _, text in lines] == texts
    want = tf.nn.softmax(model.logits(zimg, model.encode_text(texts)))[0]
    np.testing.assert_allclose([float(x) for x, _ in lines], want, atol=1e-3)


@pytest.mark.full
def test_the_program_in_c_says_what_is_wrong(exported, c_client, tmp_path):
    folder = exported("lit_bert_tiny")[1]
    for arguments, message in (
        ((folder,), "usage"),
        ((tmp_path, tmp_path / "0.png"), "Could not find SavedModel"),
        ((folder, tmp_path / "0.png", tmp_path), "expected tensorflow_text/python/ops"),
    ):
        done = subprocess.run([c_client, *arguments], capture_output=True, text=True)
        assert done.returncode in (1, 2) and message in done.stderr
