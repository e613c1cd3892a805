"""An MCP server on loopback (the PyPI SDK's), behind the same guard as every other server here.

Run as `python mcp_server.py GUARD`: prints its address. A request's Authorization is shown to
GUARD, and what that doesn't take gets a 401. Run by the Python that has the SDK, so it imports
nothing of ours.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.error
import urllib.request
from typing import Any

import uvicorn  # type: ignore[import-not-found,unused-ignore]
from mcp.server.mcpserver import MCPServer  # type: ignore[import-not-found,unused-ignore]

GUARD = sys.argv[1]
server = MCPServer("toy")


@server.tool()  # type: ignore[untyped-decorator,misc,unused-ignore]
def double(number: int) -> int:
    """Doubles a number."""
    return 2 * number


def is_let_in(authorization: str) -> bool:
    request = urllib.request.Request(GUARD, headers={"Authorization": authorization})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return bool(opener.open(request, timeout=10).status == 200)
    except urllib.error.HTTPError as exc:
        exc.close()
        return False


class Guard:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            shown = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not await asyncio.to_thread(is_let_in, shown):
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(f"http://localhost:{listener.getsockname()[1]}/mcp", flush=True)
app = Guard(server.streamable_http_app())
config = uvicorn.Config(app, log_level="error", lifespan="on")
uvicorn.Server(config).run(sockets=[listener])
