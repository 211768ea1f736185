"""Downloads: resumed, checked, moved into place only when whole. The servers here are real ones."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import io
import os
import pathlib
import threading
import warnings

import numpy as np
import pytest

import lit_tf
from lit_tf.checkpoints import download, registry
from lit_tf.checkpoints.download import cache_dir, fetch, resolve
from lit_tf.errors import CheckpointError, DownloadError

VOCAB = b"[UNK]\n[CLS]\n"


def checkpoint(seed=0):
    """Returns the bytes of a small archive, large enough to be interrupted."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(seed)
    np.savez(buffer, t=rng.standard_normal(50_000, dtype=np.float32))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, as badly as it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = {}  # path -> bytes
        self.headers = {}  # sent with every answer
        self.ranges = True
        self.etag = '"v1"'
        self.break_after = []  # for each answer in turn: how many bytes come before it breaks off
        self.shift = []  # for each answer in turn: how far its range is from the one asked for
        self.lengths = True  # else in chunks, the length unknown beforehand
        self.status = []  # for each answer in turn: a status to refuse with
        self.log = []  # (path, Range header, status)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        content = server.files.get(self.path)
        status = server.status.pop(0) if server.status else 200
        start = 0
        if content is None:
            status = 404
        elif status == 200 and asked and server.ranges:
            if self.headers.get("If-Range") in (None, server.etag):
                status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    status = 416
        if status == 206 and server.shift:
            start += server.shift.pop(0)
        server.log.append((self.path, asked, status))
        self.send_response(status)
        if status >= 300:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.etag:
            self.send_header("ETag", server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for header in server.headers.items():
            self.send_header(*header)
        self.close_connection = True
        sent = content[start:]
        announced = len(sent)
        if server.break_after:
            sent = sent[: server.break_after.pop(0)]
        if server.lengths:
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(sent)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            if len(sent) == announced:
                self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if "partial" in p.name)


def test_a_file_is_fetched_once(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    path = fetch([f"{server.url}/a.npz"], tmp_path / "in" / "a.npz")
    assert path.read_bytes() == checkpoint()
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]
    fetch([f"{server.url}/a.npz"], path)
    assert len(server.log) == 1


def test_an_interrupted_transfer_goes_on_where_it_stopped(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    server.break_after = [70_000, 50_000]
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()
    assert [r for _, r, _ in server.log] == [None, "bytes=70000-", "bytes=120000-"]
    assert [s for _, _, s in server.log] == [200, 206, 206]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    server.break_after = [40_000, 0, 0, 0]
    with pytest.raises(DownloadError, match="40,000 of 200,2.*kept"):
        fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    assert len(leftovers(tmp_path)) == 1
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert server.log[-1][1:] == ("bytes=40000-", 206)
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()
    assert leftovers(tmp_path) == []


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_new_one(server, tmp_path):
    server.files["/a.npz"] = checkpoint(0)
    server.break_after = [40_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    server.files["/a.npz"], server.etag = checkpoint(1), '"v2"'
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == checkpoint(1)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_a_server_without_ranges_or_versions_starts_over(server, tmp_path, etag):
    server.files["/a.npz"] = checkpoint()
    server.ranges, server.etag, server.break_after = False, etag, [40_000]
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()
    assert [s for _, _, s in server.log] == [200, 200]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("shift", [-10_000, 10_000])
def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path, shift):
    server.files["/a.npz"] = checkpoint()
    server.break_after, server.shift = [70_000], [shift]
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()
    assert [r for _, r, _ in server.log] == [None, "bytes=70000-", None]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["a.npz", "a.model"])
def test_a_file_of_unknown_length_is_known_to_be_whole(server, tmp_path, name):
    server.files[f"/{name}"] = checkpoint()
    server.lengths, server.break_after = False, [70_000]
    fetch([f"{server.url}/{name}"], tmp_path / name)
    assert (tmp_path / name).read_bytes() == checkpoint()
    assert len(server.log) == 2


@pytest.mark.parametrize("announced", [100, 150_000])
def test_a_server_that_announces_less_than_the_file_is_found_out(server, tmp_path, announced):
    server.files["/a.npz"] = checkpoint()[:announced]
    with pytest.raises(DownloadError, match="not return a checkpoint.*truncated"):
        fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists() and leftovers(tmp_path) == []


def test_a_partial_file_longer_than_the_file_is_dropped(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    partial = tmp_path / f".a.npz.{server.etag.encode().hex()}.partial"
    partial.write_bytes(b"x" * 300_000)
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()


def test_a_partial_file_with_wrong_bytes_is_found_out_by_the_servers_md5(server, tmp_path):
    content = checkpoint()
    server.files["/a.npz"] = content
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={digest}"}
    partial = tmp_path / f".a.npz.{server.etag.encode().hex()}.partial"
    partial.write_bytes(content[:100] + b"\xff" * 900)
    with pytest.raises(DownloadError, match="MD5"):
        fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == content


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    server.status = [503, 429]
    fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert [s for _, _, s in server.log] == [503, 429, 200]


def test_what_is_not_there_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(DownloadError, match=r"none\.npz.*HTTP 404.*put it there"):
        fetch([f"{server.url}/none.npz"], tmp_path / "none.npz", "put it there")
    assert len(server.log) == 1
    assert leftovers(tmp_path) == []


def test_a_web_page_in_place_of_a_checkpoint_is_refused(server, tmp_path):
    server.files["/a.npz"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="not return a checkpoint.*HTML"):
        fetch([f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists() and leftovers(tmp_path) == []


def test_the_second_address_is_tried_where_the_first_fails(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    fetch([f"{server.url}/none.npz", f"{server.url}/a.npz"], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").exists()


def test_two_that_ask_at_once_share_one_download(server, tmp_path):
    server.files["/a.npz"] = checkpoint()
    threads = [
        threading.Thread(target=fetch, args=([f"{server.url}/a.npz"], tmp_path / "a.npz"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.npz").read_bytes() == checkpoint()
    assert len(server.log) == 1


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="file"):
        fetch([f"{server.url}/a.npz"], tmp_path / "file" / "a.npz")


@pytest.fixture
def published(server, monkeypatch):
    """A published model that lives on the test's server."""
    model = dataclasses.replace(
        registry.MODELS["LiT-B16B_2"],
        urls=(f"{server.url}/LiT-B16B_2.npz",),
        vocab_url=f"{server.url}/LiT-B16B_2.txt",
    )
    monkeypatch.setattr(registry, "find_published", {model.name: model}.get)
    server.files = {"/LiT-B16B_2.npz": checkpoint(), "/LiT-B16B_2.txt": VOCAB}
    return model


def test_a_published_name_comes_with_its_vocabulary(server, published):
    path = resolve("LiT-B16B_2")
    assert path == cache_dir() / "LiT-B16B_2.npz"
    assert path.read_bytes() == checkpoint()
    assert path.with_suffix(".txt").read_bytes() == VOCAB
    server.log.clear()
    assert resolve("LiT-B16B_2") == path
    assert server.log == []


def test_offline_the_error_says_which_file_goes_where(server, published):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError) as e:
        resolve("LiT-B16B_2")
    for word in (str(cache_dir()), "LiT-B16B_2.npz", "LiT-B16B_2.txt", "LIT_TF_CACHE", server.url):
        assert word in str(e.value)
    assert "\n" not in str(e.value)


def test_offline_a_checkpoint_put_there_by_hand_is_found(server, published):
    server.shutdown()
    server.server_close()
    cache_dir().mkdir()
    (cache_dir() / "LiT-B16B_2.npz").write_bytes(checkpoint())
    with pytest.warns(UserWarning, match="no vocabulary"):
        assert resolve("LiT-B16B_2") == cache_dir() / "LiT-B16B_2.npz"


def test_an_address_brings_the_vocabulary_beside_it(server):
    server.files = {"/run/final.npz": checkpoint(), "/run/final.model": b"sp", "/x/final.npz": b""}
    server.files["/run/final.json"] = b'{"lit_tf": {"token_length": 32}}'
    path = resolve(f"{server.url}/run/final.npz")
    assert path.name == "final.npz"
    assert path.with_suffix(".model").read_bytes() == b"sp"
    assert path.with_suffix(".json").read_bytes() == server.files["/run/final.json"]
    with pytest.raises(DownloadError):  # another file of the same name, and an empty one
        resolve(f"{server.url}/x/final.npz")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>404", b"\n<html>", b"no such file\n"])
def test_a_web_page_is_not_kept_as_a_vocabulary(server, page):
    server.files = {"/run/final.npz": checkpoint(), "/run/final.txt": page}
    server.files["/run/vocab.txt"] = VOCAB
    path = resolve(f"{server.url}/run/final.npz")
    found = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    assert found == ["final.npz", "vocab.txt"] and leftovers(path.parent) == []
    with pytest.raises(DownloadError, match="not return a vocabulary"):
        resolve(f"{server.url}/run/final.txt")


def test_a_fault_while_looking_for_a_vocabulary_is_a_warning(server):
    server.files = {"/run/final.npz": checkpoint(), "/run/final.txt": VOCAB}
    server.status = [401]
    with pytest.warns(UserWarning, match="vocabulary.*HTTP 401"):
        assert resolve(f"{server.url}/run/final.npz").read_bytes() == checkpoint()


def test_no_vocabulary_is_looked_for_where_one_was_given(server, published):
    server.files["/run/final.npz"] = checkpoint()
    resolve(f"{server.url}/run/final.npz", with_vocab=False)
    resolve("LiT-B16B_2", with_vocab=False)
    asked = [path for path, _, _ in server.log]
    assert asked == ["/run/final.json", "/run/final.npz", "/LiT-B16B_2.npz"]


def test_addresses_may_hold_spaces_and_other_letters(server):
    server.files["/my%20run/m%C3%BCde%2B.npz"] = checkpoint()
    assert resolve(f"{server.url}/my run/müde%2B.npz").name == "müde+.npz"


@pytest.mark.parametrize("host", ["a b", "[::1", "host:port", "ü" * 70])
def test_a_host_that_cannot_be_one_is_refused_at_once(server, monkeypatch, host):
    monkeypatch.setattr(download.time, "sleep", lambda s: pytest.fail("tried again"))
    with pytest.raises(DownloadError):
        resolve(f"http://{host}/a.npz", with_vocab=False)


def test_the_address_of_a_folder_brings_a_tf1_bert(server):
    names = ("vocab.txt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001")
    server.files = {f"/bert/{n}": VOCAB if n == "vocab.txt" else n.encode() for n in names}
    folder = resolve(f"{server.url}/bert/")
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("address", ["https://", "ftp://host/a.npz", "gs://", "https://host"])
def test_addresses_that_are_none_are_refused(server, address):
    with pytest.raises(DownloadError, match="expected https"):
        resolve(address)


def test_local_paths_and_embedded_names(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.touch()
    assert resolve(path) == resolve(str(path)) == path
    monkeypatch.setattr(registry, "DATA", tmp_path)
    assert resolve("a") == path


def test_a_checkpoint_here_is_taken_before_the_model_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LiT-digits").mkdir()  # an export, say
    assert resolve("LiT-digits") == registry.embedded_models()["LiT-digits"]
    bert = tmp_path / "uncased_L-12_H-768_A-12"
    bert.mkdir()
    (bert / "bert_model.ckpt.index").touch()
    with pytest.warns(UserWarning, match=r"Write \./uncased"):
        assert resolve(bert.name) == pathlib.Path(bert.name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert resolve(f"./{bert.name}") == pathlib.Path(bert.name)


@pytest.mark.parametrize("name", [None, 3, ["a.npz"]])
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(CheckpointError, match="not a name, a path or an address"):
        resolve(name)


def test_an_unknown_name_is_met_with_the_nearest_one():
    with pytest.raises(CheckpointError, match=r"did you mean 'LiT-B16B_2'\?"):
        resolve("LiT-B16B-2")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lit-b16b", "'LiT-B16B'"),
        ("siglip2 b/16 256", "'SigLIP2-B16-256'"),
        ("siglip2_b16_256.npz", "'SigLIP2-B16-256'"),
        ("webli_en_b16_256", "'SigLIP-B16-256'"),
        ("google/siglip2-giant-opt-patch16-385", "'SigLIP2-g-opt16-384'"),
        ("SigLIP2", "'SigLIP2-"),
        ("SigLIP2-B16-255", "'SigLIP2-B16-256'"),
    ],
)
def test_names_are_found_however_they_are_spelled(name, meant):
    with pytest.raises(CheckpointError, match=f"did you mean {meant}"):
        resolve(name)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_that_is_no_checkpoint_is_one_error(name):
    with pytest.raises(CheckpointError):
        lit_tf.load(name)


def test_gs_addresses_go_through_tensorflows_file_system(tmp_path, monkeypatch):
    """A folder stands in for the bucket: tf.io.gfile reads both by the same calls."""
    import tensorflow as tf

    content = checkpoint()
    (tmp_path / "a.npz").write_bytes(content)
    opened = []

    class GFile(tf.io.gfile.GFile):
        def __init__(self, name, mode):
            opened.append(name)
            super().__init__(name.replace("gs://bucket", str(tmp_path)), mode)

    stat = tf.io.gfile.stat
    monkeypatch.setattr(tf.io.gfile, "GFile", GFile)
    monkeypatch.setattr(
        tf.io.gfile, "stat", lambda name: stat(name.replace("gs://bucket", str(tmp_path)))
    )
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    path = resolve("gs://bucket/a.npz")
    assert path.read_bytes() == content and opened == ["gs://bucket/a.npz"]
    with pytest.raises(DownloadError, match=r"gs://bucket/none\.npz: no such object"):
        resolve("gs://bucket/none.npz")
    with contextlib.suppress(OSError):
        path.unlink()
    found = stat(str(tmp_path / "a.npz"))
    version = f"{found.length}-{found.mtime_nsec}".encode().hex()
    (path.parent / f".a.npz.{version}.partial").write_bytes(content[:1000])
    assert resolve("gs://bucket/a.npz").read_bytes() == content
    assert leftovers(path.parent) == []


def test_a_trainers_folder_is_fetched_from_gs_without_the_optimizers_state(tmp_path, monkeypatch):
    import tensorflow as tf

    bucket = tmp_path / "bucket"
    step = bucket / "run" / "a.bv-000000020"
    for array in ("params~t", "params~img~embedding~bias", "opt~count", "chrono~t"):
        (step / array).mkdir(parents=True)
        for file in (".zarray", "0"):
            (step / array / file).write_bytes(array.encode())
    (bucket / "run" / "a.bv-LAST").write_text("000000020")
    (bucket / "run" / "a.model").write_bytes(b"vocabulary")
    local = lambda name: name.replace("gs://bucket", str(bucket))  # noqa: E731

    class GFile(tf.io.gfile.GFile):
        def __init__(self, name, mode):
            super().__init__(local(name), mode)

    monkeypatch.setattr(tf.io.gfile, "GFile", GFile)
    for name in ("stat", "isdir", "listdir"):
        function = getattr(tf.io.gfile, name)
        monkeypatch.setattr(tf.io.gfile, name, lambda p, f=function: f(local(p)))
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    for name in ("a.bv", "a.bv-000000020"):
        path = resolve(f"gs://bucket/run/{name}")
        assert sorted(p.name for p in path.iterdir()) == ["params~img~embedding~bias", "params~t"]
        assert (path / "params~t" / "0").read_bytes() == b"params~t"
        assert (path.parent / "a.model").read_bytes() == b"vocabulary"
    with pytest.raises(DownloadError, match="gs://bucket/run/b.bv-1: no such folder"):
        resolve("gs://bucket/run/b.bv-1")
    with pytest.raises(DownloadError, match="gs://BUCKET/PATH address only"):
        resolve("https://host/run/a.bv")


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("LIT_TF_CACHE", "/somewhere")
    assert os.fspath(cache_dir()) == "/somewhere"
    monkeypatch.delenv("LIT_TF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert os.fspath(cache_dir()) == "/cache/lit_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert os.fspath(cache_dir()) == "/home/me/.cache/lit_tf"
