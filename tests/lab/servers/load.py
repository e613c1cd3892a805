"""Asks an address at a steady rate, and prints how often each status came, as JSON.

Each request has a connection of its own and begins at its time, whether or not those before it have
ended. A program of its own, so that what is measured doesn't wait for it.

    python load.py PORT REQUESTS_A_SECOND SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

REQUEST = (
    b"GET /x HTTP/1.0\r\nX-Nightporter-Host: evil.example\r\nAuthorization: Bearer forged\r\n\r\n"
)


async def ask(port: int) -> str:
    """The status of one request, or what went wrong."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        line = await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        return line.split()[1].decode()
    except (OSError, TimeoutError, IndexError) as exc:
        return type(exc).__name__


async def main(port: int, rate: int, seconds: int) -> None:
    began = time.monotonic()
    tasks = []
    for number in range(rate * seconds):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(ask(port)))
    begun_s = time.monotonic() - began
    statuses = Counter(await asyncio.gather(*tasks))
    print(json.dumps({"statuses": statuses, "begun_s": begun_s}))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
