"""What TensorFlow Serving runs before it takes requests: no client waits for first calls."""

import pathlib
import shutil

import tensorflow as tf

from lit_tf.files import sha256

from . import manifest

FILE = pathlib.Path("assets.extra", "tf_serving_warmup_requests")


def write(folder, inputs, signatures) -> str:
    """Writes a request of the first row for each of `signatures`; returns the file's SHA-256."""
    path = pathlib.Path(folder) / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as file:
        for name, function in signatures.items():
            (arguments,) = (inputs[known] for known in inputs if signatures[known] is function)
            file.write(_prediction_log(name, arguments))
    return sha256(path)


def _prediction_log(signature, arguments):
    """Returns a PredictionLog of tensorflow_serving/apis/prediction_log.proto."""
    request = _field(1, _field(3, signature.encode()))  # model_spec.signature_name
    for name, value in arguments.items():
        tensor = tf.make_tensor_proto(value[:1]).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))  # inputs, a map
    return _field(6, _field(1, request))  # predict_log.request


def _field(number, data):
    """Returns a field of a protocol buffer that holds bytes."""
    size, out = len(data), bytes([number << 3 | 2])
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size]) + data


def keep_extras(old, new) -> None:
    """Copies what others put into assets.extra of the export that is replaced."""
    folder = pathlib.Path(old, FILE.parent)
    if not folder.is_dir():
        return
    own = pathlib.Path(old) / FILE
    written = manifest.read(old).get("warmup")

    def ours(parent, names):
        mine = pathlib.Path(parent) == folder and own.is_file() and sha256(own) == written
        return {FILE.name} & set(names) if mine else set()

    shutil.copytree(folder, pathlib.Path(new, FILE.parent), ignore=ours, dirs_exist_ok=True)
