"""Serves a site on this machine, for looking at it before it is published."""

import functools
import http.server
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cgbench.errors import UsageError
from cgbench.leaderboard.site.build import MANIFEST

#: What a careful host sends with every page; the pages' own policy says the rest.
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
LOOPBACK: Final = "127.0.0.1"


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Gives files of the site; folders are not listed."""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404, "no such page")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: the terminal shows the address, and that is what matters."""


def make_server(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """Return a server of a site on the loopback interface; it runs when told to.

    Args:
        folder: A built site.
        port: Port; any free one if 0.

    Raises:
        UsageError: The folder is no site, or the port is taken.
    """
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder}: not a site",
            expected=f"a folder with {MANIFEST}",
            fix=f"cgbench leaderboard build --out {folder}",
        )
    handler = functools.partial(_Handler, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror or error}", fix="choose another --port"
        ) from error


def serve(folder: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve a site until interrupted; ``ready`` is told its address."""
    with make_server(folder, port) as server:
        ready(f"http://{LOOPBACK}:{server.server_address[1]}/")
        server.serve_forever()
