"""What the server refuses before Streamlit sees a request, and what it tells browsers with every answer.

Streamlit checks the Host header of a WebSocket only. Here every request has to name a host in ``server.allowedHosts``, so that another
site cannot reach the server under a name of its own (DNS rebinding). The server's statistics are closed. The headers forbid the
browser to load anything from elsewhere, to show the app inside another page, and to tell other sites its address, which holds names of
files.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Server = Callable[[Scope, Any, Send], Awaitable[None]]

CLOSED = "/_stcore/metrics"
POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' blob: {scripts}",  # Streamlit loads the scripts of the app's own components from blobs
    "style-src 'self' 'unsafe-inline'",  # Streamlit, plotly and the app's pages put styles into the page
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",  # 'self' includes the WebSocket
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
))
PAGE = Path(st.__file__).parent / "static" / "index.html"  # the one page of Streamlit, into which its scripts draw everything


def policy() -> str:
    """The Content-Security-Policy. Of scripts within the page it allows those that Streamlit's own page has, by their digests."""
    scripts = re.findall(r"<script>(.*?)</script>", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    digests = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    return POLICY.format(scripts=" ".join(f"'sha256-{digest}'" for digest in digests)).replace(" ;", ";")


class Guard:
    """An ASGI middleware around Streamlit's server."""

    def __init__(self, app: Server) -> None:
        self._server = app
        self._hosts: list[str] = st.get_option("server.allowedHosts") or []
        self._headers = {
            b"content-security-policy": policy().encode(),
            b"x-content-type-options": b"nosniff",
            b"x-frame-options": b"DENY",
            b"referrer-policy": b"same-origin",
        }

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer a request, or hand it on to Streamlit."""
        if scope["type"] != "http":  # Streamlit checks the host and the origin of a WebSocket itself
            await self._server(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in self._headers]
                message = {**message, "headers": [*others, *self._headers.items()]}
            await send(message)

        names = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(names) != 1 or not is_allowed(names[0], self._hosts):
            await _refuse(send_with_headers, 400, b"This server is not known under that name: see server.allowedHosts.")
        elif scope["path"].rstrip("/").endswith(CLOSED):
            await _refuse(send_with_headers, 404, b"Not Found")
        else:
            await self._server(scope, receive, send_with_headers)


def is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Whether a Host header, with or without a port, names one of the allowed hosts, as ``server.allowedHosts`` has them: names,
    ``*.`` before a name for what ends with it, ``*`` for every one; all where the list is empty."""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname
        _ = parts.port  # raises ValueError for what is no port
    except ValueError:
        return False
    if not name or parts.netloc != host or "@" in host:
        return False
    name = name.rstrip(".")
    patterns = [pattern.strip().lower().rstrip(".") for pattern in allowed]
    return not patterns or any(pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
                               for pattern in patterns)


async def _refuse(send: Send, status: int, words: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
    await send({"type": "http.response.body", "body": words})
