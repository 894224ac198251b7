"""A server under test reduced to its mailbox: keeps every delivery as it came in."""

from __future__ import annotations

import dataclasses
import http.server
import threading
import time


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One request of a store."""

    path: str
    headers: dict[str, str]
    body: bytes
    received_at: float


class Receiver:
    """Listens on loopback; answers 200, or with the statuses that were queued for a path."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answers: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._keep(self.path, headers, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _keep(self, path: str, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            queued = self.answers.get(path)
            self.deliveries.append(Delivery(path, headers, body, time.time()))
            return queued.pop(0) if queued else 200

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def at(self, path: str) -> list[Delivery]:
        with self._lock:
            return [delivery for delivery in self.deliveries if delivery.path == path]

    def stop(self) -> None:
        self._server.shutdown()
