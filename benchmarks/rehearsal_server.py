"""A server on the loopback that is slow and drops connections: an archive's host, and a hub.

It sends the files below a folder, by their paths there, in pieces and from the byte that is asked
for. Headers are those that huggingface_hub needs for a file of a repository.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECE = 1 << 18  # bytes


class Slow(ThreadingHTTPServer):
    """Serves the files below ``folder``; ``log`` has a line for each reply to a GET."""

    daemon_threads = True

    def __init__(self, folder: Path, rate: float, drops: list[float], log: Path, port: int = 0):
        """``rate``: bytes per second; ``drops``: after which shares of a file a connection ends."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder, self.rate, self.drops, self.log = folder.resolve(), rate, drops, log
        self.dropped: set[tuple[str, float]] = set()  # each only once, as in real life
        self.writing = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: Slow

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        if not (found := self._head()):
            return
        path, first = found
        size = path.stat().st_size
        dropped, last = self.server.dropped, size
        for share in self.server.drops:
            if (self.path, share) not in dropped and first < share * size:
                dropped.add((self.path, share))
                last = int(share * size)
                break
        begun = time.perf_counter()
        with path.open("rb") as file:
            file.seek(first)
            for start in range(first, last, PIECE):
                self.wfile.write(file.read(min(PIECE, last - start)))
                late = begun + (start - first) / self.server.rate - time.perf_counter()
                time.sleep(max(0.0, late))
        self.close_connection = True
        with self.server.writing, self.server.log.open("a") as log:
            ended = "whole" if last == size else "dropped"
            seconds = time.perf_counter() - begun
            log.write(f"{path.name},{first},{last},{size},{ended},{seconds:.1f}\n")

    def _head(self) -> tuple[Path, int] | None:
        """Send the head of a reply: the file, and the first byte that is asked for."""
        path = (self.server.folder / unquote(self.path).lstrip("/")).resolve()
        if not (path.is_relative_to(self.server.folder) and path.is_file()):
            self.send_error(404)
            return None
        size, asked = path.stat().st_size, self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if first >= size:
            self.send_error(416)
            return None
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - first))
        version = sha256(f"{path.name} {size}".encode()).hexdigest()
        self.send_header("ETag", f'"{version}"')
        self.send_header("X-Repo-Commit", version[:40])
        self.end_headers()
        return path, first

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(
    folder: Path, rate: float, drops: list[float], log: Path, port: int = 0
) -> Iterator[str]:
    """The URL of such a server while the block runs."""
    server = Slow(folder, rate, drops, log, port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
