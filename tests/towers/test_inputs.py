"""What a tower does not take is refused in words, eagerly and in Keras graphs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig

IMAGE = ViTConfig(patch_size=8, image_size=16, width=16, depth=1, num_heads=2, mlp_dim=32)
PLAIN = TextTransformerConfig(50, width=16, depth=1, num_heads=2, mlp_dim=32, out_dim=16)
BERT = BertConfig(50, width=16, depth=1, num_heads=2, mlp_dim=32, max_length=20, out_dim=16)


@pytest.fixture(scope="module", params=["plain", "bert"])
def model(request):
    return lit_tf.LitModel(LitConfig(IMAGE, PLAIN if request.param == "plain" else BERT))


def images(shape=(2, 16, 16, 3), value=0.5, dtype=np.float32):
    return np.full(shape, value, dtype)


BAD_IMAGES = {
    "bytes": (images(value=1, dtype=np.uint8), "found uint8.*encode_image takes pixels"),
    "integers": (images(value=1, dtype=np.int64), "found int64"),
    "one image": (images((16, 16, 3)), r"images\[None\]"),
    "another size": (images((2, 24, 24, 3)), r"\(N, 16, 16, 3\), found \(2, 24, 24, 3\)"),
    "channels first": (images((2, 3, 16, 16)), r"\(2, 3, 16, 16\)"),
    "to 255": (images(value=255.0), "255.*preprocess"),
    "NaN": (images(value=np.nan), "nan"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(model, case):
    x, message = BAD_IMAGES[case]
    calls = [model.image_tower, lambda x: model({"image": x})]
    for call in calls:
        for values in (x, tf.constant(x)):
            with pytest.raises(lit_tf.ImageError, match=message):
                call(values)
        if x.dtype != np.float32 or x.shape != (2, 16, 16, 3):
            with pytest.raises(lit_tf.ImageError, match=r"floats in \[-1, 1\]"):
                call(keras.Input(x.shape[1:], dtype=x.dtype))
            with pytest.raises(lit_tf.ImageError, match=r"floats in \[-1, 1\]"):
                tf.function(call, autograph=False)(tf.constant(x))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((2, 1), np.int32), r"found \(2, 1\)"),
        (np.zeros((2, 24), np.int32), r"found \(2, 24\)"),
        (np.zeros(16, np.int32), r"found \(16,\)"),
        (np.zeros((2, 16), np.float32), "found float32.*tokenize"),
        (np.full((2, 16), 50), r"\[0, 50\).*50 to 50"),
        (np.full((2, 16), -1), "-1 to -1"),
    ],
)
def test_bad_tokens(model, tokens, message):
    for call in (model.text_tower, lambda x: model({"tokens": x})):
        for values in (tokens, tf.constant(tokens)):
            with pytest.raises(lit_tf.TokenizerError, match=message):
                call(values)
        if tokens.dtype.kind == "f" or tokens.shape != (2, 16):
            with pytest.raises(lit_tf.TokenizerError, match="text tower takes integers"):
                call(keras.Input(tokens.shape[1:], dtype=tokens.dtype))


def test_tokens_of_any_integer_type_are_the_same(model):
    tokens = np.arange(32).reshape(2, 16)
    expected = model.text_tower(tokens.astype(np.int32))
    for dtype in (np.int64, np.uint8, np.int16):
        np.testing.assert_array_equal(model.text_tower(tokens.astype(dtype)), expected)


def test_keras_functions_that_would_lose_something_say_what_to_do(model, tmp_path):
    x = keras.Input((16, 16, 3))
    around = keras.Model(x, model.image_tower(x))
    calls = (
        (
            lambda: model(images(), np.zeros((2, 16), int)),
            r'model\(\{"image": images.*found ndarray',
        ),
        (lambda: model(image=images(), tokens=np.zeros((2, 16), int)), "found image and tokens"),
        (lambda: model.encode_image(x), "outside of graphs only.*embed_pixels"),
        (lambda: model.encode_tokens(keras.Input((16,), dtype="int32")), "graphs only.*embed_tok"),
        (lambda: lit_tf.images.normalize(x), "not an array"),
        (lambda: model.save(tmp_path / "x.h5"), "ends in .keras"),
        (lambda: model.quantize("int8"), r"lit_tf\.export\.tflite"),
        (lambda: around.quantize("int8"), r"lit_tf\.export\.tflite"),
        (lambda: model.text_tower.head.enable_lora(4), 'locking="LH"'),
        (lambda: model.with_dtype("int8_from_float32"), "expected floats.*tflite"),
        (lambda: lit_tf.LitModel(model.config, dtype="int8_from_float32"), "expected floats"),
    )
    for call, message in calls:
        with pytest.raises(lit_tf.LitError, match=message):
            call()
    texts = tf.data.Dataset.from_tensor_slices(["a cat"]).batch(1)
    with pytest.raises(lit_tf.LitError, match=r"outside of graphs only.*model\.tokenizer"):
        texts.map(model.encode_text)
    tokens = tf.data.Dataset.from_tensors(tf.zeros((2, 16), tf.int32))
    with pytest.raises(lit_tf.TokenizerError, match=r"outside of graphs only.*embed_tokens\(tok"):
        tokens.map(model.encode_tokens)
    pixels = tf.data.Dataset.from_tensors(tf.zeros((4, 4, 3), tf.uint8))
    with pytest.raises(lit_tf.ImageError, match="to_uint8 work outside of graphs only.*preprocess"):
        pixels.map(lambda x: lit_tf.images.to_uint8(x))
