"""TensorFlow's checkpoints of the original BERT release, read under canonical names."""

import numpy as np
import pytest
import tensorflow as tf

from lit_tf.checkpoints.shapes import config_of
from lit_tf.checkpoints.tensorflow_files import find_prefix, open_prefix
from lit_tf.errors import CheckpointError
from lit_tf.loading import open_checkpoint

LAYER = "txt/BertEncoder_0/encoder_block/layer_sequence/layers_1"
TABLES = "txt/BertEncoder_0/embedder/embedders"


@pytest.fixture(scope="module")
def variables(fixture_module):
    return fixture_module.bert_tf1_variables()


def write(folder, variables, name="bert_model.ckpt"):
    folder.mkdir(exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / name),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(v) for v in variables.values()],
    )
    return folder


def read(path):
    """Returns {canonical name: array} of a checkpoint whose names and shapes are a model's."""
    checkpoint = open_checkpoint(path)
    config_of(checkpoint)
    return {name: checkpoint.read(name) for name in checkpoint.names}


def test_names_and_shapes_are_those_of_a_lit_checkpoint(fixtures, fixture_module):
    expected = {
        k: s for k, s in fixture_module.shapes("upstream_init_tiny").items() if "BertEncoder" in k
    }
    positions = f"{TABLES}_position_ids/embedding"
    expected[positions] = (64, expected[positions][1])  # LiT's own training cuts them to 32
    found = read(fixtures / "bert_tiny")
    assert {k: v.shape for k, v in found.items()} == expected
    assert all(v.dtype == np.float32 for v in found.values())


@pytest.mark.parametrize(
    ("name", "original"),
    [
        (f"{TABLES}_token_ids/embedding", "bert/embeddings/word_embeddings"),
        (f"{TABLES}_position_ids/embedding", "bert/embeddings/position_embeddings"),
        (f"{TABLES}_segment_ids/embedding", "bert/embeddings/token_type_embeddings"),
        ("txt/BertEncoder_0/layer_norm/scale", "bert/embeddings/LayerNorm/gamma"),
        ("txt/BertEncoder_0/layer_norm/bias", "bert/embeddings/LayerNorm/beta"),
        (f"{LAYER}/attention_block/attention_layer/query/kernel", "attention/self/query/kernel"),
        (f"{LAYER}/attention_block/attention_layer/key/bias", "attention/self/key/bias"),
        (f"{LAYER}/attention_block/attention_layer/value/kernel", "attention/self/value/kernel"),
        (f"{LAYER}/attention_block/dense_layer/kernel", "attention/output/dense/kernel"),
        (f"{LAYER}/attention_block/layer_norm/scale", "attention/output/LayerNorm/gamma"),
        (f"{LAYER}/attention_block/layer_norm/bias", "attention/output/LayerNorm/beta"),
        (f"{LAYER}/mlp_block/mlp/dense_layer/kernel", "intermediate/dense/kernel"),
        (f"{LAYER}/mlp_block/dense_layer/kernel", "output/dense/kernel"),
        (f"{LAYER}/mlp_block/layer_norm/scale", "output/LayerNorm/gamma"),
        (f"{LAYER}/mlp_block/layer_norm/bias", "output/LayerNorm/beta"),
    ],
)
def test_every_leaf_comes_from_its_original(fixtures, variables, name, original):
    if not original.startswith("bert/"):
        original = f"bert/encoder/layer_1/{original}"
    found = open_prefix(find_prefix(fixtures / "bert_tiny"))
    np.testing.assert_array_equal(found.read(name), variables[original])


def test_folder_prefix_and_index_file_name_the_same_checkpoint(fixtures, tmp_path):
    folder = fixtures / "bert_tiny"
    for path in (folder, str(folder / "bert_model.ckpt"), folder / "bert_model.ckpt.index"):
        assert find_prefix(path)
        assert len(read(path)) == 37
    assert not find_prefix(tmp_path)
    assert not find_prefix(fixtures / "lit_bert_tiny.npz")


def test_float16_comes_back_as_float32(tmp_path, variables):
    half = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in variables.items()}
    found = read(write(tmp_path / "b", half))
    assert {v.dtype.name for v in found.values()} == {"float32"}


def changed(variables, **changes):
    """Returns the variables with some replaced, or dropped where None."""
    out = {**variables, **{k.replace("__", "/"): v for k, v in changes.items()}}
    return {k: v for k, v in out.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"bert__encoder__layer_1__output__dense__bias": None},
            ["layers_1/mlp_block/dense_layer/bias", "missing", "nearest"],
        ),
        ({"bert__embeddings__word_embeddings": None}, ["token_ids", "missing"]),
        (
            {"bert__encoder__layer_7__output__dense__bias": np.zeros(128, np.float32)},
            ["layers_2", "missing"],
        ),
        (
            {"bert__encoder__layer_0__output__dense__kernel": np.zeros((256, 127), np.float32)},
            ["layers_0/mlp_block/dense_layer/kernel", "(256, 127)", "(256, 128)"],
        ),
        (
            {"bert__embeddings__position_embeddings": np.zeros((64, 96), np.float32)},
            ["position_ids", "(64, 96)", "(64, 128)"],
        ),
        ({"bert__embeddings__word_embeddings": np.zeros(7, np.float32)}, ["token_ids", "7"]),
        (
            {"bert__embeddings__LayerNorm__gamma": np.zeros(128, np.int32)},
            ["gamma", "int32", "float32"],
        ),
    ],
)
def test_what_is_missing_or_misshapen_is_named(tmp_path, variables, changes, words):
    folder = write(tmp_path / "b", changed(variables, **changes))
    with pytest.raises(CheckpointError) as e:
        read(folder)
    for word in (str(folder), *words):
        assert word in str(e.value)


def test_another_models_checkpoint_is_refused(tmp_path):
    folder = write(tmp_path / "b", {"resnet/kernel": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match="no BERT.*resnet/kernel"):
        read(folder)


@pytest.mark.parametrize("file", ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_damaged_files_are_refused(tmp_path, variables, file, damage):
    folder = write(tmp_path / "b", variables)
    content = bytearray((folder / file).read_bytes())
    if damage == "missing":
        (folder / file).unlink()
    else:
        for at in range(40, len(content), 97):
            content[at] ^= 0xFF
        cut = {"empty": 0, "cut": len(content) // 2, "flipped": len(content)}[damage]
        (folder / file).write_bytes(content[:cut])
    with pytest.raises(CheckpointError) as e:
        read(folder)
    assert str(folder) in str(e.value) and "\n" not in str(e.value)
