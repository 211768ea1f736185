"""Hugging Face's and open_clip's SigLIP: their numbers, their vocabularies, and what is refused."""

import json
import pathlib
import shutil
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lit_tf
from lit_tf import cli
from lit_tf.checkpoints import download, registry
from lit_tf.commands.info import summarize
from lit_tf.images import naflex
from lit_tf.texts import tokenizer_json
from lit_tf.texts.tokenizers import SentencePieceTokenizer

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
HERE = REFERENCE / "huggingface"
VOCABULARIES = {
    "hf_siglip_tiny": ("spiece.model", "sentencepiece.model"),
    "hf_siglip2_tiny": ("tokenizer.model", "bytes_bpe.model"),
}
EMBEDDINGS, LOGITS = 5e-6, 5e-5  # the specification's bounds


@pytest.fixture(scope="module")
def expected():
    with np.load(HERE / "expected_hf.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def copied(tmp_path):
    """Copies a fixture, with its vocabulary, into a folder that may be changed."""

    def copy(name, to="model"):
        folder = tmp_path / to
        shutil.copytree(HERE / name, folder)
        if name in VOCABULARIES:
            ours, theirs = VOCABULARIES[name]
            shutil.copy(REFERENCE / theirs, folder / ours)
        return folder

    return copy


def change(folder, file="config.json", **fields):
    """Sets fields of a JSON, `tower.field` inside a tower's object."""
    data = json.loads((folder / file).read_text())
    for field, value in fields.items():
        *path, last = field.split("__")
        inner = data
        for part in path:
            inner = inner[part]
        inner[last] = value
    (folder / file).write_text(json.dumps(data))


def change_tensors(folder, change, name="model.safetensors", **kwargs):
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, **kwargs)


def assert_answers(model, expected, source, answers):
    inputs = {}
    if model.image_tower is not None:
        inputs["image"] = expected[f"{source}/images"]
    if model.text_tower is not None:
        inputs["tokens"] = expected[f"{source}/tokens"]
    found = model(inputs)
    for key, name, atol in (
        ("image_embedding", "zimg", EMBEDDINGS),
        ("text_embedding", "ztxt", EMBEDDINGS),
        ("logits", "logits", LOGITS),
    ):
        if key in found:
            np.testing.assert_allclose(found[key], expected[f"{answers}/{name}"], rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "source", "answers"),
    [
        ("hf_siglip_tiny", "hf_siglip_tiny", "hf_siglip_tiny"),
        ("hf_siglip2_tiny", "hf_siglip2_tiny", "hf_siglip2_tiny"),
        ("hf_siglip_tiny_bf16", "hf_siglip_tiny", "hf_siglip_tiny_bf16"),
        ("oc_siglip_tiny", "oc_siglip_tiny", "oc_siglip_tiny/tanh"),
        ("oc_siglip2_tiny", "oc_siglip2_tiny", "oc_siglip2_tiny/tanh"),
        ("hf_image_tower_v5", "hf_siglip_tiny", "hf_siglip_tiny"),
        ("hf_text_tower_v5", "hf_siglip_tiny", "hf_siglip_tiny"),
    ],
)
def test_embeddings_are_the_libraries_own(expected, name, source, answers):
    model = lit_tf.load(HERE / name)
    assert_answers(model, expected, source, answers)
    assert model.config.layout == ("open_clip" if name.startswith("oc_") else "huggingface")
    assert model.config.lowercase


def test_naflex_answers_as_transformers_does(copied):
    with np.load(HERE / "expected_hf_naflex.npz") as expected:
        e = {k.removeprefix("naflex/"): v for k, v in expected.items()}
    folder = copied("hf_naflex_tiny")
    model = lit_tf.load(folder)
    assert model.config.image.naflex and model.config.image.grid == 8
    for i, (rows, columns) in enumerate(e["shapes"]):
        patches = e["patches"][i, : rows * columns].reshape(rows, columns, -1)
        zimg = model.embed_images(naflex.batched([patches]))
        np.testing.assert_allclose(zimg[0], e["zimg"][i], rtol=0, atol=EMBEDDINGS)
    ztxt = model.embed_tokens(e["tokens"])
    np.testing.assert_allclose(ztxt, e["ztxt"], rtol=0, atol=EMBEDDINGS)
    np.testing.assert_allclose(model.logits(e["zimg"], ztxt), e["logits"], rtol=0, atol=LOGITS)
    change(folder, vision_config__num_patches=49)
    with pytest.raises(lit_tf.CheckpointError, match="num_patches is 49, the tensors' 64"):
        lit_tf.load(folder)


def test_lone_towers_of_transformers_4_have_their_prefix(expected, copied):
    for kind, prefix in (("image", "vision_model."), ("text", "text_model.")):
        folder = copied(f"hf_{kind}_tower_v5", kind)
        tensors = load_file(folder / "model.safetensors")
        save_file({prefix + k: v for k, v in tensors.items()}, folder / "model.safetensors")
        assert_answers(lit_tf.load(folder), expected, "hf_siglip_tiny", "hf_siglip_tiny")


def shard(folder):
    """Cuts a model in two, as transformers does; returns the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: files[i % 2] for i, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({k: v for k, v in tensors.items() if weight_map[k] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index, weight_map, files


def test_shards_are_one_model_or_an_error(expected, copied):
    folder = copied("hf_siglip2_tiny")
    index, weight_map, files = shard(folder)
    assert_answers(lit_tf.load(folder), expected, "hf_siglip2_tiny", "hf_siglip2_tiny")
    name = next(iter(weight_map))
    for wrong in ("../x.safetensors", "/etc/x.safetensors", "a\\x.safetensors", "x.bin", 3):
        index.write_text(json.dumps({"weight_map": {**weight_map, name: wrong}}))
        with pytest.raises(lit_tf.CheckpointError, match="in the same folder"):
            lit_tf.load(folder)
    for wrong, message in (
        ({**weight_map, name: files[1]}, "holds|does not hold"),
        ({**weight_map, name: "model-3.safetensors"}, "model-3.safetensors: no such file"),
        ({k: v for k, v in weight_map.items() if k != name}, f"holds '{name}'"),
        ({}, "expected weight_map"),
        ([], "expected weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(lit_tf.CheckpointError, match=message):
            lit_tf.load(folder)


def test_half_precision_files_and_files_by_name_are_read(expected, copied):
    folder = copied("hf_siglip_tiny")
    path = folder / "model.safetensors"
    save_file({k: v.astype(np.float16) for k, v in load_file(path).items()}, path)
    model = lit_tf.load(path)
    assert model.tokenizer is not None and model.image_tower.dtype == "float32"
    cosine = model({"image": expected["hf_siglip_tiny/images"]})["image_embedding"]
    assert (cosine.numpy() * expected["hf_siglip_tiny/zimg"]).sum(-1).min() > 0.9999
    assert summarize(folder)["dtypes"] == ["float16"]
    large = {k: v.astype(ml_dtypes.bfloat16) for k, v in load_file(path).items()}
    large["text_model.embeddings.position_ids"] = np.arange(64)[None]  # other people's
    large["classifier.weight"] = np.zeros((2, 2), np.float32)
    save_file(large, path)
    assert lit_tf.load(folder).config == model.config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "siglip2"}, "patch_embedding.weight. has shape"),
        ({"model_type": "clip"}, "'clip'.*SigLIP and SigLIP 2"),
        ({"model_type": None}, "without model_type"),
        ({"model_type": None, "class_name": "SigLIPBackbone"}, "KerasHub"),
        ({"quantization_config": {}}, "quantized"),
        ({"vision_config__vision_use_head": False}, "no pooling"),
        ({"vision_config__hidden_act": "gelu"}, "'gelu'; lit_tf computes gelu_pytorch_tanh"),
        ({"text_config__layer_norm_eps": 1e-5}, "1e-05; lit_tf computes 1e-06"),
        ({"vision_config__num_channels": 1}, "num_channels is 1"),
        ({"text_config__vocab_size": 7}, "vocab_size is 7, the tensors' 200"),
        ({"text_config__hidden_size": 50}, "hidden_size is 50, the tensors' 48"),
        ({"vision_config__num_hidden_layers": 9}, "num_hidden_layers is 9, the tensors' 2"),
        ({"text_config__projection_size": 48}, "projection_size is 48, the tensors' 56"),
        ({"vision_config__patch_size": 8}, "patch_size is 8, the tensors' 10"),
        ({"vision_config__image_size": 64}, "image_size 64 has 6 patches of 10.* has 9 rows"),
        ({"vision_config__image_size": [32, 48]}, "image_size is .32, 48."),
        ({"vision_config__num_attention_heads": 5}, "shape .*not that of a SigLIP with 5 heads"),
        ({"vision_config__num_attention_heads": "4"}, "expected a positive integer"),
        ({"text_config__num_attention_heads": 0}, "expected a positive integer"),
        ({"vision_config": 3}, "a tower is 3"),
    ],
)
def test_other_models_and_contradictions_are_refused(copied, fields, message):
    folder = copied("hf_siglip_tiny")
    change(folder, **fields)
    with pytest.raises(lit_tf.CheckpointError, match=message):
        lit_tf.load(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision_cfg__timm_model_name": "vit_tiny_patch8_siglip_32"}, "heads.*in no file"),
        ({"vision_cfg__timm_model_name": "vit_base_patch8_siglip_gap_32"}, "gap"),
        ({"vision_cfg__timm_model_name": "convnext_base"}, "convnext"),
        ({"vision_cfg__timm_model_name": "vit_base_patch16_siglip_naflex"}, "naflex"),
        ({"vision_cfg__timm_pool": "avg"}, "'avg'"),
        ({"text_cfg__pool_type": "argmax"}, "'argmax'"),
        ({"text_cfg__no_causal_mask": False}, "False"),
        ({"text_cfg__heads": 5}, "5 heads"),
        ({"text_cfg": None}, "two towers"),
    ],
)
def test_other_models_of_open_clip_are_refused(copied, fields, message):
    folder = copied("oc_siglip_tiny")
    change(folder, "open_clip_config.json", **{f"model_cfg__{k}": v for k, v in fields.items()})
    with pytest.raises(lit_tf.CheckpointError, match=message):
        lit_tf.load(folder)


def test_pickles_are_never_opened(tmp_path, copied):
    with pytest.raises(lit_tf.CheckpointError, match="pickle, which lit_tf never opens"):
        lit_tf.load(HERE / "oc_pickle_only")
    for name in ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"\x80\x04.")
        for path in (folder, folder / name):
            with pytest.raises(lit_tf.CheckpointError, match="pickle"):
                lit_tf.load(path)


def lie(path, change):
    """Rewrites the header of a file, and leaves its data as it is."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


BIAS = "vision_model.post_layernorm.bias"


def test_headers_that_lie_are_refused(copied):
    original = copied("hf_siglip_tiny", "original") / "model.safetensors"
    folder = copied("hf_siglip_tiny")
    path = folder / "model.safetensors"
    end = original.stat().st_size
    for change_header in (
        lambda h: h[BIAS].update(data_offsets=[0, 1 << 40]),
        lambda h: h[BIAS].update(shape=[1 << 63]),
        lambda h: h[BIAS].update(shape=[1 << 62, 8]),
        lambda h: h[BIAS].update(shape=[-1]),
        lambda h: h[BIAS].update(dtype="F8_E4M3"),
        lambda h: h[BIAS].update(dtype="X"),
        lambda h: h[BIAS].update(data_offsets=h["logit_bias"]["data_offsets"]),
        lambda h: h.pop(BIAS),
        lambda h: h.update({"../x": h.pop(BIAS)}),
        lambda h: h.clear(),
    ):
        shutil.copy(original, path)
        lie(path, change_header)
        with pytest.raises(lit_tf.CheckpointError, match="model"):
            lit_tf.load(folder)
    for size in (end - 1, 7, 0):
        path.write_bytes(original.read_bytes()[:size])
        with pytest.raises(lit_tf.CheckpointError, match="damaged, or not fetched whole"):
            lit_tf.load(folder)
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(lit_tf.CheckpointError, match="damaged"):
        lit_tf.load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("logit_bias"), "'logit_bias'"),
        (lambda t: t.update(extra=np.zeros(2)), "1 unexpected keys: extra"),
        (lambda t: t.update({BIAS: np.zeros(56, np.int8)}), "I8.*quantized"),
        (lambda t: t.update({BIAS: np.full(56, np.nan, np.float32)}), "NaN"),
        (lambda t: t.update({BIAS: np.zeros(55, np.float32)}), "encoder_norm/bias.*shape"),
        (lambda t: t.update({BIAS: np.zeros(0, np.float32)}), "has shape \\(0,\\)"),
        (lambda t: t.update(logit_scale=np.zeros(2, np.float32)), "logit_scale. has shape"),
        (
            lambda t: t.update(
                {"vision_model.embeddings.patch_embedding.weight": np.zeros((56, 300), np.float32)}
            ),
            "patch_embedding.weight. has shape",
        ),
        (lambda t: t.clear() or t.update(x=np.zeros(1)), "no tensors of SigLIP"),
    ],
)
def test_tensors_that_do_not_fit_are_named(copied, edit, message):
    folder = copied("hf_siglip_tiny")
    change_tensors(folder, edit)
    with pytest.raises(lit_tf.CheckpointError, match=message):
        lit_tf.load(folder)


def test_a_configuration_is_needed_and_read_with_care(copied):
    folder = copied("hf_siglip_tiny")
    for text, message in (
        ('{"model_type"', "damaged"),
        ("[]", "expected a JSON object"),
        ("[" * 100_000, "damaged"),
        (" " * (1 << 21), "small JSON"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(lit_tf.CheckpointError, match=message):
            lit_tf.load(folder)
    (folder / "config.json").unlink()
    for path in (folder, folder / "model.safetensors"):
        with pytest.raises(lit_tf.CheckpointError, match="expected config.json"):
            lit_tf.load(path)


def test_another_resolution_and_an_unusual_side(copied):
    folder = copied("hf_siglip_tiny")
    change(folder, vision_config__image_size=[30, 30])
    assert lit_tf.load(folder).config.image.image_size == 30
    assert lit_tf.load(folder, resolution=60).config.image.grid == 6
    assert summarize(folder)["config"]["image"]["image_size"] == 30


# --- vocabularies -------------------------------------------------------------------------------


def test_vocabularies_are_found_in_their_order(copied, tmp_path):
    texts = [str(t) for t in np.load(HERE / "expected_tokens.npz")["texts"]]
    folder = copied("hf_siglip2_tiny")
    wanted = SentencePieceTokenizer(str(REFERENCE / "bytes_bpe.model"), 64, True)(texts)
    np.testing.assert_array_equal(lit_tf.load(folder).tokenize(texts), wanted)
    (folder / "tokenizer.model").unlink()
    np.testing.assert_array_equal(lit_tf.load(folder).tokenize(texts), wanted)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(lit_tf.TokenizerError, match="without a vocabulary"):
        lit_tf.load(folder).tokenize(texts)
    model = lit_tf.load(folder, vocab=tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(model.tokenize(texts), wanted)


@pytest.mark.parametrize(
    ("name", "original", "key"),
    [
        ("oc_siglip_tiny", "sentencepiece.model", "siglip"),
        ("oc_siglip2_tiny", "bytes_bpe.model", "siglip2"),
    ],
)
def test_a_vocabulary_is_rebuilt_from_tokenizer_json(name, original, key):
    with np.load(HERE / "expected_tokens.npz") as expected:
        texts, ids = [str(t) for t in expected["texts"]], expected[f"{key}/lit_tf"]
    data = tokenizer_json.sentencepiece_model(HERE / name / "tokenizer.json")
    rebuilt = SentencePieceTokenizer(data, 64, True)
    np.testing.assert_array_equal(rebuilt(texts), ids)
    before = SentencePieceTokenizer(str(REFERENCE / original), 64, True)
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefgh  \t.,'<>_▁ÄßéЖ中🙂１"))
    texts = ["".join(random.choice(letters, n)) for n in random.integers(0, 60, 1000)]
    texts += ["<eos> a <pad>", "</s>", "<unk>", "<0x41>", ""]
    np.testing.assert_array_equal(rebuilt(texts), before(texts))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        ({"model__type": "BPE"}, "byte fallback"),
        ({"model__vocab": 3}, "can be used"),
        ({"model__vocab": [["a", "b"]]}, "can be used"),
        ({"model__unk_id": 10**9}, "can be used"),
        ({"normalizer": {"type": "Prepend", "prepend": "x"}}, "unknown step.*Prepend"),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "%"}},
            "can be used|base64",
        ),
        ({"added_tokens": [{"id": 5000, "content": "x", "special": True}]}, "not 0, 1, 2"),
        ({"added_tokens": [{"id": 3, "content": "x", "special": True}]}, "two pieces have id 3"),
    ],
)
def test_other_tokenizers_are_refused(copied, fields, message):
    folder = copied("oc_siglip_tiny")
    change(folder, "tokenizer.json", **fields)
    with pytest.raises(lit_tf.TokenizerError, match=message):
        lit_tf.load(folder)


# --- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch, copied):
    """Fills the cache of Hugging Face's library, offline; returns a function that adds to it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def add(repository, name, revision="main", commit="a" * 40):
        root = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(copied(name, f"{name}_{revision}"), root / "snapshots" / commit)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / revision).write_text(commit)

    return add


def test_names_of_the_hub_are_read_from_its_cache(hub, expected):
    hub("google/siglip-base-patch16-224", "hf_siglip_tiny")
    hub("someone/theirs", "hf_siglip2_tiny")
    hub("someone/theirs", "hf_siglip_tiny", "v2", "b" * 40)
    model = lit_tf.load("google/siglip-base-patch16-224")
    assert_answers(model, expected, "hf_siglip_tiny", "hf_siglip_tiny")
    assert model.tokenizer is not None and model.name == "siglip-base-patch16-224"
    for name, source in (("theirs", "hf_siglip2_tiny"), ("theirs@v2", "hf_siglip_tiny")):
        assert_answers(lit_tf.load(f"hf://someone/{name}"), expected, source, source)
    for name in ("hf://someone/else", "hf://someone/theirs@v3", "hf://a b", "hf://"):
        with pytest.raises(lit_tf.DownloadError, match="cannot be fetched from Hugging Face"):
            lit_tf.load(name)
    with pytest.raises(lit_tf.CheckpointError, match="is named hf://someone/theirs;"):
        lit_tf.load("someone/theirs")


def test_a_repository_of_pickles_is_refused(hub):
    hub("someone/pickle", "oc_pickle_only")
    with pytest.raises(lit_tf.CheckpointError, match="never opens"):
        lit_tf.load("hf://someone/pickle")


def test_every_siglip_is_known_by_its_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    siglip = [m for m in registry.MODELS.values() if m.family != "LiT"]
    assert len({m.huggingface for m in siglip}) == len(siglip) == 27
    for model in siglip:
        assert registry.find_published(model.huggingface) is model
    (tmp_path / "google" / "siglip2-base-patch16-256").mkdir(parents=True)
    assert download.resolve("google/siglip2-base-patch16-256").is_dir()


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["hf_siglip_tiny", "hf_siglip2_tiny", "hf_siglip_tiny_bf16", "hf_naflex_tiny"]
)
def test_what_was_read_is_written_back_bit_for_bit(copied, tmp_path, name):
    folder, out = copied(name), tmp_path / "out"
    dtype = "bfloat16" if name.endswith("bf16") else "float32"
    model = lit_tf.load(folder)
    lit_tf.save_huggingface(model, out, dtype=dtype)
    before, after = (load_file(f / "model.safetensors") for f in (folder, out))
    assert list(before) == list(after)
    for key in before:
        assert before[key].dtype == after[key].dtype and before[key].shape == after[key].shape
        assert before[key].tobytes() == after[key].tobytes(), key
    again = lit_tf.load(out)
    assert again.config == model.config
    theirs, ours = (json.loads((f / "config.json").read_text()) for f in (folder, out))
    for field in ("model_type", "architectures"):
        assert ours[field] == theirs.get(field, ["SiglipModel"])
    ignored = {"bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"}
    for tower in ("vision_config", "text_config"):
        given = {k: v for k, v in theirs[tower].items() if k not in ignored}
        assert given.items() <= ours[tower].items()
    processor = json.loads((out / "preprocessor_config.json").read_text())
    if name == "hf_naflex_tiny":
        assert processor["image_processor_type"] == "Siglip2ImageProcessor"
        assert (processor["patch_size"], processor["max_num_patches"]) == (8, 256)
    if model.tokenizer is not None:
        assert again.tokenizer.to_bytes() == model.tokenizer.to_bytes()
        vocabulary = "tokenizer.model" if "siglip2" in name else "spiece.model"
        assert (out / vocabulary).read_bytes() == (folder / vocabulary).read_bytes()
    lit_tf.save_huggingface(model, out, dtype=dtype)  # its own folder is replaced
    (out / "notes.txt").touch()
    with pytest.raises(lit_tf.CheckpointError, match="other files, such as notes.txt"):
        lit_tf.save_huggingface(model, out)


@pytest.mark.parametrize("name", ["siglip_tiny", "siglip2_tiny", "siglip_i18n_tiny"])
def test_big_visions_models_come_back_from_this_layout(fixtures, tmp_path, name):
    model = lit_tf.load(fixtures / f"{name}.npz")
    source, out = str(fixtures / f"{name}.npz"), str(tmp_path / "out")
    assert cli.main(["convert", source, out, "--layout", "huggingface"]) == 0
    again = lit_tf.load(tmp_path / "out")
    shapes = {k: v.numpy() for k, v in model.canonical_variables().items()}
    for key, variable in again.canonical_variables().items():
        if key in shapes:
            assert variable.numpy().tobytes() == shapes[key].tobytes(), key
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32) * 2 - 1
    tokens = model.tokenize(["a photo of a cat", "two dogs"])
    inputs = {"image": images, "tokens": tokens}
    for key, value in model(inputs).items():
        np.testing.assert_array_equal(value, again(inputs)[key])
    lit_tf.save_npz(again, tmp_path / "back.npz")
    assert lit_tf.load(tmp_path / "back.npz").config.image == model.config.image


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_is_written_as_both_versions_read_it(tmp_path, tower):
    model = lit_tf.load(HERE / f"hf_{tower}_tower_v5")
    lit_tf.save_huggingface(model, tmp_path / "out")
    prefix = {"image": "vision_model.", "text": "text_model."}[tower]
    before = load_file(HERE / f"hf_{tower}_tower_v5" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert {prefix + k: v.tobytes() for k, v in before.items()} == {
        k: v.tobytes() for k, v in after.items()
    }
    assert lit_tf.load(tmp_path / "out").config == model.config


def test_what_this_layout_cannot_hold_is_refused_and_nothing_is_written(fixtures, tmp_path):
    for name, message in (("lit_bert_tiny", "BERT|pooling"), ("lit_tt_tiny", "pooling|cased")):
        with pytest.raises(lit_tf.CheckpointError, match=message):
            lit_tf.save_huggingface(lit_tf.load(fixtures / f"{name}.npz"), tmp_path / "x")
    model = lit_tf.load(fixtures / "siglip_tiny.npz")
    with pytest.raises(lit_tf.CheckpointError, match="float64"):
        lit_tf.save_huggingface(model, tmp_path / "x", dtype="float64")
    model.image_tower.variables[0].assign(model.image_tower.variables[0] + 1e5)
    with pytest.raises(lit_tf.CheckpointError, match="float16 ends at 65,504"):
        lit_tf.save_huggingface(model, tmp_path / "x", dtype="float16")
    assert not list(tmp_path.iterdir())


def test_stacked_blocks_are_those_that_big_vision_publishes(fixtures, tmp_path):
    model = lit_tf.load(fixtures / "siglip2_tiny.npz")
    lit_tf.save_npz(model, tmp_path / "x.npz", stacked=True)
    with np.load(fixtures / "siglip2_tiny.npz") as before, np.load(tmp_path / "x.npz") as after:
        assert sorted(before.files) == sorted(after.files)
        for key in before.files:
            assert before[key].tobytes() == after[key].tobytes(), key
    assert lit_tf.load(tmp_path / "x.npz").config == model.config
    with pytest.raises(lit_tf.CheckpointError, match="no stacked blocks"):
        lit_tf.save_npz(lit_tf.load(fixtures / "lit_tt_tiny.npz"), tmp_path / "y.npz", stacked=True)
