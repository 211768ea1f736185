"""A local page to search an index with: what `lit-tf browse` serves.

Only this machine reaches the server, and only whoever has the token in its address. Requests with
the host or the origin of another page are refused. A picture is served if it was in an answer and
still is in the index.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import secrets
import socket
import threading

import numpy as np

from lit_tf.errors import ConfigError, LitError, extra
from lit_tf.images.browsers import for_browsers
from lit_tf.search.copies import copy_pictures
from lit_tf.search.paths import from_stored, to_stored
from lit_tf.search.query import Searcher

with extra("search"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import FileResponse, Response
    from starlette.routing import Route

_HERE = pathlib.Path(__file__).parent
_FILES = {"": "browse.html", "browse.js": "browse.js", "browse.css": "browse.css"}
PAGE = 60  # pictures that the page asks for at once
_MOST = 3000  # pictures of one answer
_THUMBNAILS = 5000  # kept in memory, some 40 MB
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Browser:
    """The ASGI application `app` behind the page at the address `url`, which has the token."""

    def __init__(self, searcher: Searcher, port: int):
        self._searcher, self._lock = searcher, threading.Lock()
        self._token = secrets.token_urlsafe(16)
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._paths: dict[str, str] = {}  # of all pictures in answers, by their id
        self._thumbnails: collections.OrderedDict[str, bytes] = collections.OrderedDict()
        self.url = f"http://127.0.0.1:{port}/{self._token}/"
        routes = [
            *(Route(f"/{{token}}/{name}", self._file) for name in _FILES),
            Route("/{token}/find", self._find),
            Route("/{token}/thumbnail/{id}", self._thumbnail),
            Route("/{token}/picture/{id}", self._picture),
            Route("/{token}/copy", self._copy, methods=["POST"]),
        ]
        guard = Middleware(BaseHTTPMiddleware, dispatch=self._guard)
        say = {LitError: lambda request, error: _json({"error": str(error)}, 400)}
        self.app = Starlette(routes=routes, middleware=[guard], exception_handlers=say)

    async def _guard(self, request, call_next):
        """Answers only the page itself."""
        origin = request.headers.get("origin")
        ours = request.headers.get("host") in self._hosts
        ours &= origin is None or origin.removeprefix("http://") in self._hosts
        ours &= request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if not ours:
            return Response("This page answers only itself.", 403)
        token = request.url.path.split("/")[1]
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return Response("Not found.", 404)
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    async def _file(self, request):
        return FileResponse(_HERE / _FILES[request.url.path.split("/")[2]])

    def _find(self, request):
        ask = request.query_params
        offset = ask.get("offset", "0")
        offset = min(int(offset), _MOST) if offset.isdecimal() else 0
        top = min(offset + PAGE, _MOST)
        with self._lock:  # questions of one typing person come faster than answers
            found = self._answer(ask, top, _dates(ask.get("from"), ask.get("to")))
        pictures = [self._shown(picture) for picture in found[offset:]]
        more = len(found) == top and top < _MOST
        return _json({"found": pictures, "more": more, "all": self._searcher.store.rows})

    def _answer(self, ask, top, where):
        """Returns what is found; without words the latest pictures."""
        texts, minus = ([ask[n]] if ask.get(n, "").strip() else [] for n in ("text", "minus"))
        like = ask.get("like")
        if not texts and not like:
            return self._searcher.latest(top=top, where=where)
        vectors = []
        if like:
            vectors = np.array(self._row(like)["embedding"].to_pylist(), np.float32)
        vector = self._searcher.embed(texts, minus=minus, vectors=vectors)
        return self._searcher.answer(vector, top=top, where=where)

    def _shown(self, picture):
        """Returns what the page is told of a picture; remembers it."""
        name = hashlib.sha256(os.fsencode(picture.path)).hexdigest()[:32]
        self._paths[name] = picture.path
        self._thumbnails[name] = picture.thumbnail
        self._thumbnails.move_to_end(name)
        if len(self._thumbnails) > _THUMBNAILS:
            self._thumbnails.popitem(last=False)
        facts = {name: getattr(picture, name) for name in ("taken", "width", "height", "score")}
        return {"id": name, "path": picture.path, **facts}

    def _rows(self, names):
        """Returns the rows of pictures that were in answers, of those that are in the index."""
        store = self._searcher.store
        paths = [to_stored(self._paths[name]) for name in names if name in self._paths]
        return store.newest(lambda: store.rows_of(paths))

    def _row(self, name):
        row = self._rows([name])
        if not row:
            raise ConfigError("this picture is not in the index")
        return row

    def _thumbnail(self, request):
        name = request.path_params["id"]
        data = self._thumbnails.get(name) or self._row(name)["thumbnail"][0].as_py()
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private"})

    def _picture(self, request):
        path = from_stored(self._row(request.path_params["id"])["path"][0].as_py())
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as e:
            raise ConfigError(f"the picture cannot be read: {e.strerror}") from e
        data, kind = for_browsers(data, "The picture")
        return Response(data, media_type=f"image/{kind}")

    async def _copy(self, request):
        try:
            asked = json.loads(await request.body())
            ids, folder = sorted(set(asked["ids"])), str(asked["folder"])
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise ConfigError('expected JSON such as {"ids": ["0a"], "folder": "chosen"}') from e
        rows = await run_in_threadpool(self._rows, ids)
        paths = [from_stored(path) for path in rows["path"].to_pylist()]
        failures = await run_in_threadpool(copy_pictures, paths, folder)
        reasons = [f"{path}: {reason}" for path, reason in failures]
        reasons += ["a picture is not in the index any more"] * (len(ids) - len(paths))
        return _json({"copied": len(ids) - len(reasons), "failures": reasons})


def _json(value, status=200):
    """Returns a value as JSON in ASCII, since a path may hold bytes that are not UTF-8."""
    return Response(json.dumps(value), status, media_type="application/json")


def _dates(first, last):
    """Returns the condition in SQL that a picture was taken in a range of days, or None."""
    for day in filter(None, (first, last)):
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            raise ConfigError(f"{day!r} is not a day; expected one such as 2020-05-01")
    conditions = [f"taken >= '{first}'"] * bool(first) + [f"taken <= '{last}T99'"] * bool(last)
    return " AND ".join(conditions) or None


def serve(searcher: Searcher, port: int, started) -> None:
    """Serves the page until Ctrl-C; port 0 is a free one. Tells `started` the page's address."""
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as e:
        raise ConfigError(f"port {port} cannot be used: {e.strerror}; try --port 0") from e
    browser = Browser(searcher, listening.getsockname()[1])
    started(browser.url)
    config = uvicorn.Config(browser.app, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])
