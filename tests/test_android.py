"""The Kotlin of examples/android, compiled and run on a JVM: ids, pixels and patches are right."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from lit_tf.images import preprocessing
from lit_tf.texts.tokenizers import SentencePieceTokenizer

from .vocabularies import spm_bytes

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "reference"
ICU = pathlib.Path("/usr/share/java/icu4j.jar")

# Its compiler takes a dozen seconds.
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        shutil.which("kotlinc") is None or not ICU.is_file(),
        reason="Debian's kotlin and libicu4j-java are not installed",
    ),
]


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """A function from arguments and inputs, bytes each, to the program's lines."""
    jar = tmp_path_factory.mktemp("kotlin") / "check.jar"
    sources = sorted(map(str, (ROOT / "examples" / "android").glob("*.kt")))
    subprocess.run(["kotlinc", *sources, "-cp", str(ICU), "-d", str(jar)], check=True)

    def run(*arguments, inputs):
        command = ["kotlin", "-cp", f"{jar}:{ICU}", "CheckKt", *map(str, arguments)]
        lines = "".join(f"{line.hex()}\n" for line in inputs)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    return run


def ids(lines):
    return [[int(i) for i in line.split()] for line in lines]


def test_wordpieces_are_those_of_the_vectors(check, tmp_path):
    given = json.loads((ROOT / "export/tokenizer_vectors.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.txt").write_text("\n".join([*given["vocabulary"], ""]), encoding="utf-8")
    texts = [vector["text"].encode() for vector in given["vectors"]]
    found = ids(check("wordpiece", tmp_path / "vocab.txt", given["length"], inputs=texts))
    for vector, row in zip(given["vectors"], found, strict=True):
        assert row == vector["ids"], ascii(vector["text"])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_sentencepieces_are_those_of_the_vectors(check, place):
    given = json.loads((ROOT / "export/sentencepiece_vectors.json").read_text(encoding="utf-8"))
    model = given["models"][place]
    texts = [vector["text"].encode() for vector in model["vectors"]]
    how = [model[key] for key in ("length", "eos", "pad", "unk", "size")]
    how.append(str(model["lowercase"]).lower())
    found = ids(check("sentencepiece", REFERENCE / model["file"], *how, inputs=texts))
    for vector, row in zip(model["vectors"], found, strict=True):
        assert row == vector["ids"], ascii(vector["text"])


@pytest.mark.parametrize("file", ["sentencepiece.model", "bytes_bpe.model"])
def test_random_texts_and_sentinels_give_the_librarys_ids(check, tmp_path, file):
    data = spm_bytes((REFERENCE / file).read_bytes(), [f"\u2581<extra_id_{i}>" for i in range(2)])
    (tmp_path / "vocab.model").write_bytes(data)
    tokenizer = SentencePieceTokenizer(data, length=24, lowercase=True)
    rng = np.random.default_rng(5)
    alphabet = list("abc tionshe,. AZ9") + ["\u00e9", "\u0301", "\ufb01", "\u4e2d", "\U0001f600"]
    alphabet += ["\u3000", "\u00a0", "\u200b", "\t", "\u2581", "the ", "ing ", " <extra_id_1> "]
    texts = ["".join(rng.choice(alphabet, rng.integers(0, 30))) for _ in range(500)]
    how = [tokenizer.eos, tokenizer.pad, tokenizer.unk, tokenizer.vocab_size, "true"]
    inputs = [text.encode() for text in texts]
    found = ids(check("sentencepiece", tmp_path / "vocab.model", 24, *how, inputs=inputs))
    for text, row, want in zip(texts, found, tokenizer(texts).numpy().tolist(), strict=True):
        assert row == want, ascii(text)


@pytest.mark.parametrize("length", [36, 144])
def test_patches_are_big_visions(check, reference, length):
    want = reference("naflex")
    for i in range(5):
        image = want[f"image_{i}"]
        (line,) = check("patches", *image.shape[:2], 8, length, inputs=[image.tobytes()])
        patches, places, mask = (np.array(part.split(), float) for part in line.split("|"))
        patches = patches.reshape(length, -1)
        np.testing.assert_allclose(patches, want[f"{length}/patches"][i], atol=1e-5)
        np.testing.assert_array_equal(mask, want[f"{length}/type"][i])
        for axis, key in enumerate(("yidx", "xidx")):
            found = places.reshape(length, 2)[:, axis]
            np.testing.assert_array_equal(found, want[f"{length}/{key}"][i])


def test_target_sizes_are_big_visions(check, reference):
    cases, sizes = (reference("naflex")[f"sizes/{name}"] for name in ("hwPL", "result"))
    lines = check("grid", "-", inputs=[" ".join(map(str, case)).encode() for case in cases])
    grids = np.array([line.split() for line in lines], int)
    np.testing.assert_array_equal(grids * cases[:, 2:3], sizes)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, 32), (31, 17, 40), (40, 40, 40)])
def test_pixels_are_the_librarys(check, height, width, size, crop):
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    (line,) = check("resize", height, width, size, str(crop).lower(), inputs=[picture.tobytes()])
    found = np.frombuffer(bytes.fromhex(line), np.uint8).reshape(size, size, 3)
    np.testing.assert_array_equal(found, preprocessing.resize_uint8(picture, size, crop))
