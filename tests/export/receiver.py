"""A control plane as anybody could write one: it is told by a POST, pulls what that names, and says when it is done.

It knows of ours only what docs/export.md says: it reads with nbdcopy and qemu-img, and fetches links with httpx.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import jsonschema

from tests.support.pki import Pki

SCHEMAS = Path(__file__).parent.parent.parent / "docs" / "schema"
Notification = dict[str, Any]


def check(name: str, value: object) -> None:
    """Check a value against a schema of docs/schema."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


@dataclass
class Client:
    """How a control plane gets at links and disks: by its certificate, or by the sockets that ssh made for it."""

    pki: Pki | None

    @contextlib.contextmanager
    def http(self, link: str) -> Iterator[tuple[httpx.Client, str]]:
        """Yield a client for a link, and the link as that takes it."""
        if link.startswith("http+unix://"):
            socket, _, path = link.removeprefix("http+unix://").partition("/")
            with httpx.Client(transport=httpx.HTTPTransport(uds=unquote(socket))) as client:
                yield client, f"http://control-plane/{path}"
            return
        assert self.pki is not None
        context = ssl.create_default_context(cafile=self.pki.ca_file)
        context.load_cert_chain(self.pki.certificate, self.pki.key)
        with httpx.Client(verify=context, trust_env=False) as client:
            yield client, link

    def get(self, link: str, *, encoding: str = "zstd") -> httpx.Response:
        with self.http(link) as (client, url):
            return client.get(url, headers={"Accept-Encoding": encoding})

    def post(self, link: str, value: object) -> httpx.Response:
        with self.http(link) as (client, url):
            return client.post(url, json=value)

    def nbd(self, uri: str) -> str:
        """Return a URI as libnbd takes it."""
        return f"{uri}?tls-certificates={self.pki.folder}" if self.pki and uri.startswith("nbds://") else uri

    def regions(self, disk: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all regions of a disk, from all pages."""
        found = []
        for number, link in enumerate(disk["changed"]["pages"]):
            answer = self.get(link)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-encoding"] == "zstd"
            page = answer.json()
            check("export-regions", page)
            assert (page["page"], page["since"], page["disk_id"]) == (number, disk["since"], disk["id"])
            found += page["regions"]
        assert len(found) == disk["changed"]["regions"]
        return found

    def pull(self, notification: Notification, folder: Path) -> None:
        """Bring the copies in `folder` up to date: those that are not there are made."""
        for disk in notification["disks"]:
            copy = folder / disk["label"].replace(":", "_")
            if disk["since"] is None or not copy.exists():
                copy.write_bytes(b"")
            data = bytearray(copy.read_bytes().ljust(disk["size"], b"\0"))
            whole = folder / "whole.tmp"
            subprocess.run(["nbdcopy", self.nbd(disk["uri"]), whole], check=True)
            now = whole.read_bytes()
            assert len(now) == disk["size"]
            whole.unlink()
            everything = [{"offset": 0, "length": disk["size"], "type": "data"}]
            for region in everything if disk["changed"] == "full" else self.regions(disk):
                part = slice(region["offset"], region["offset"] + region["length"])
                data[part] = bytes(region["length"]) if region["type"] == "zero" else now[part]
            copy.write_bytes(data)

    def done(self, notification: Notification, result: str = "success", **fields: Any) -> httpx.Response:
        said = {"result": result, "recovery_point": notification["recovery_point"]["id"], **fields}
        check("export-done", said)
        return self.post(notification["done"], said)


@dataclass
class Receiver:
    """A control plane that listens at `url`.  `answer` gives the status of an attempt to tell it (0: none at all), by
    its number; `then` is what it does once it was told, in a thread of its own."""

    pki: Pki
    then: Callable[[Notification], None] = lambda notification: None
    answer: Callable[[int], int] = lambda attempt: 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    notifications: list[Notification] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    answers_last: bool = False
    """It answers only when it has done all."""
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def last(self) -> Notification:
        return self.notifications[-1]

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.seen.append({name.lower(): value for name, value in handler.headers.items()})
        status = self.answer(len(self.seen))
        if status == 0:
            self.told.set()
            self.may_go_on.wait(60)
            return
        if self.answers_last:
            self._run(json.loads(body))
        handler.send_response(status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)
        if status >= 300 or self.answers_last:
            return
        notification = json.loads(body)
        self.notifications.append(notification)
        self.told.set()
        thread = threading.Thread(target=self._run, args=[notification])
        self._threads.append(thread)
        thread.start()

    def _run(self, notification: Notification) -> None:
        try:
            check("export-notification", notification)
            self.then(notification)
        except BaseException as error:  # noqa: BLE001  raised when the test is over
            self.errors.append(error)

    @contextlib.contextmanager
    def listening(self, *, is_plain: bool = False) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with contextlib.suppress(OSError):
                    receiver._take(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = False
        if not is_plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pki.folder / "server-cert.pem", self.pki.folder / "server-key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self.url = f"{'http' if is_plain else 'https'}://127.0.0.1:{server.server_address[1]}/ntx"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.may_go_on.set()
            server.shutdown()
            thread.join()
            server.server_close()
            for each in self._threads:
                each.join()
        if self.errors:
            raise self.errors[0]
