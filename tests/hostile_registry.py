"""A small registry of the tests' own, over real HTTP, that can be as bad as some are."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
TITLE = "org.opencontainers.image.title"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """What it has, and what it does wrong.

    Attributes
    ----------
    host : str
        And port.
    blobs, manifests : dict
        By digest; manifests by tag, too.
    login : str or None
        ``USER:PASSWORD`` that it wants.
    bearer : bool
        Tokens, which are valid for `token_uses` requests each.
    cut_after : list of int
        After so many bytes of a blob the connection breaks: one for each of the next answers.
    answers : list of (int, dict)
        Statuses and headers of the next answers to requests for blobs.
    ranges : bool
        Range is heeded.
    lie : callable or None
        Of a blob's bytes makes others.
    stall : int or None
        After so many bytes of a blob nothing comes any more, however often it is asked for.
    elsewhere : Registry or None
        Where requests for blobs are sent on to.
    seen : list of (str, dict)
        Requests: path and headers.
    """

    def __init__(self) -> None:
        self.host = ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.login: str | None = None
        self.bearer = False
        self.token_uses = 1000
        self.tokens: dict[str, int] = {}
        self.cut_after: list[int] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.ranges = True
        self.lie: Callable[[bytes], bytes] | None = None
        self.stall: int | None = None
        self.elsewhere: Registry | None = None
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()

    def blob(self, data: bytes) -> dict[str, Any]:
        """Add a blob; return its descriptor."""
        self.blobs[digest_of(data)] = data
        return {"mediaType": LAYER, "digest": digest_of(data), "size": len(data)}

    def artifact(self, tag: str, files: dict[str, bytes], **more: Any) -> str:
        """Add files under a tag; return the digest of the manifest."""
        layers = [{**self.blob(data), "annotations": {TITLE: t}} for t, data in files.items()]
        config = {**self.blob(b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
        return self.manifest(tag, {"config": config, "layers": layers, **more})

    def image(self, tag: str, layers: list[bytes]) -> str:
        """Add an image; return the digest of its manifest."""
        config = {
            **self.blob(json.dumps({"os": "linux", "tag": tag}).encode()),
            "mediaType": CONFIG,
        }
        return self.manifest(tag, {"config": config, "layers": list(map(self.blob, layers))})

    def manifest(self, tag: str, document: dict[str, Any], kind: str = MANIFEST) -> str:
        """Add a manifest; return its digest."""
        raw = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
        for name in (tag, digest_of(raw)):
            self.manifests[name] = (kind, raw)
        return digest_of(raw)

    def asked(self, part: str) -> list[dict[str, str]]:
        """Return the headers of all requests whose path has that part."""
        return [headers for path, headers in self.seen if part in path]


@contextmanager
def hostile() -> Iterator[Registry]:
    """Run one."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.seen.append((self.path, dict(self.headers)))
            path = urlsplit(self.path)
            if path.path == "/token":
                self.token(parse_qs(path.query))
            elif not self.may():
                self.challenge()
            elif "/manifests/" in path.path:
                self.manifest(path.path.rpartition("/")[2])
            else:
                self.blob(path.path.rpartition("/")[2])

        def may(self) -> bool:
            given = self.headers.get("Authorization", "")
            if registry.bearer:
                token = given.replace("Bearer ", "")
                registry.tokens[token] = registry.tokens.get(token, 0) - 1
                return registry.tokens[token] >= 0
            return registry.login is None or given == self.basic()

        def basic(self) -> str:
            return "Basic " + base64.b64encode((registry.login or "").encode()).decode()

        def challenge(self) -> None:
            how = 'Basic realm="here"'
            if registry.bearer:
                realm = f"http://{registry.host}/token"
                how = f'Bearer realm="{realm}",service="tests",scope="repository:x:pull"'
            self.say(401, b"{}", {"WWW-Authenticate": how})

        def token(self, query: dict[str, list[str]]) -> None:
            if registry.login is not None and self.headers.get("Authorization") != self.basic():
                self.say(401, b"{}")
                return
            assert query["scope"] == ["repository:x:pull"]
            token = f"token{len(registry.tokens)}"
            registry.tokens[token] = registry.token_uses
            self.say(200, json.dumps({"token": token}).encode())

        def manifest(self, name: str) -> None:
            if name not in registry.manifests:
                self.say(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
                return
            kind, raw = registry.manifests[name]
            self.say(200, raw, {"Content-Type": kind})

        def blob(self, digest: str) -> None:
            if registry.answers:
                status, headers = registry.answers.pop(0)
                self.say(status, b"", headers)
                return
            if registry.elsewhere is not None:
                where = f"http://{registry.elsewhere.host}{self.path}"
                self.say(307, b"", {"Location": where})
                return
            if digest not in registry.blobs:
                self.say(404, b"{}")
                return
            data = registry.blobs[digest]
            data = registry.lie(data) if registry.lie else data
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked.group(1)) if asked and registry.ranges else 0
            headers = {"Content-Length": str(len(data) - start)}
            if asked and registry.ranges:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.head(206 if asked and registry.ranges else 200, headers)
            body = data[start:]
            if registry.cut_after:
                self.wfile.write(body[: registry.cut_after.pop(0)])
                self.close_connection = True
            elif registry.stall is not None:
                self.wfile.write(body[: max(0, registry.stall - start)])
                self.wfile.flush()
                registry.ended.wait()
                self.close_connection = True
            else:
                self.wfile.write(body)

        def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
            self.wfile.write(body)

        def head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # who pulls may go whenever it likes
            pass

    server = Server(("127.0.0.1", 0), Handler)
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
