"""`lit-tf serve-web`: Python's own web server, with the headers that an exported page needs."""

import argparse
import contextlib
import functools
import http.server
import pathlib

from lit_tf.errors import ExportError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("site", metavar="SITE", help="a folder that lit-tf export --web wrote")
    add("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    host = "address to listen on (default: 127.0.0.1, which only this machine reaches)"
    add("--host", default="127.0.0.1", help=host)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the types and headers that the page needs."""

    protocol_version = "HTTP/1.1"
    # The system's table of types may be wrong or missing, and browsers insist on these.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".json": "application/json",
        ".wasm": "application/wasm",
        ".tflite": "application/octet-stream",
        ".webp": "image/webp",
        ".avif": "image/avif",
    }

    def end_headers(self):
        # With the first two, a browser lets WebAssembly use several threads.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def copyfile(self, source, outputfile):
        try:
            super().copyfile(source, outputfile)
        except ConnectionError:  # a visitor may leave before the file's end
            self.close_connection = True

    def log_message(self, *_):
        pass


def make_server(site, host="127.0.0.1", port=0) -> http.server.ThreadingHTTPServer:
    """Returns a server of a site; `serve_forever()` starts it. Port 0 takes a free one."""
    site = pathlib.Path(site)
    if not all((site / name).is_file() for name in ("lit_manifest.json", "index.html")):
        raise ExportError(f"{site} is not a site; expected a folder of lit-tf export --web")
    handler = functools.partial(Handler, directory=str(site))
    try:
        return http.server.ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        raise ExportError(f"cannot listen on {host}, port {port}: {error}") from None


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf serve-web` until it is interrupted."""
    with make_server(args.site, args.host, args.port) as server:
        host, port = args.host, server.server_address[1]
        print(f"http://{'localhost' if host == '127.0.0.1' else host}:{port}/ (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
