"""A coding agent's MCP client, as far as headers go: the helper at every connection, and once more
after a 401 (as Claude Code does since 2.1.193).

Run as `python mcp_client.py URL SECONDS PAUSE HELPER...`; prints a JSON object of what happened.
Run by the Python that has the SDK, so it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter

import httpx2  # type: ignore[import-not-found,unused-ignore]
from mcp import Client  # type: ignore[import-not-found,unused-ignore]
from mcp.client.streamable_http import (  # type: ignore[import-not-found,unused-ignore]
    streamable_http_client,
)

URL, SECONDS, PAUSE, HELPER = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
counts: Counter[str] = Counter()
tokens: set[str] = set()


def headers() -> dict[str, str]:
    done = subprocess.run(HELPER, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        counts[f"helper failed: {done.stderr}"] += 1
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    tokens.add(found.get("Authorization", ""))
    return found


async def call() -> None:
    async with httpx2.AsyncClient(headers=headers(), timeout=20, trust_env=False) as http:
        transport = streamable_http_client(URL, http_client=http)
        async with Client(transport) as client:
            await client.call_tool("double", {"number": 21})


async def main() -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for attempt in ("first", "second"):
            try:
                await call()
            except Exception as exc:
                counts[f"{attempt} failed: {type(exc).__name__}"] += 1
            else:
                counts["done"] += 1
                break
        await asyncio.sleep(PAUSE)
    print(json.dumps({"counts": counts, "tokens": sorted(tokens)}))


asyncio.run(main())
