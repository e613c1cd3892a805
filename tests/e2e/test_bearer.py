"""BearerAuth, httpx and asyncio against a server that takes only a live token."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import requests

import nightporter
from lab.worlds.vendor import Vendor
from nightporter.client.bearer import BearerAuth, httpx_auth


def age(porter: nightporter.Porter, seconds: float = 120) -> None:
    """The token that is held was got so long ago."""
    token = porter.get_token()
    token.obtained_at_s -= seconds


def test_a_live_token_is_sent(porter: nightporter.Porter, vendor: Vendor) -> None:
    auth = BearerAuth("pitchpoint", porter=porter)
    with requests.Session() as session:
        assert session.get(f"{vendor.address}/_sandbox/resource", auth=auth).status_code == 200
        assert session.get(f"{vendor.address}/_sandbox/resource", auth=auth).status_code == 200
    assert vendor.count("sign-in") == 1


def test_a_401_causes_one_exchange_and_one_more_try(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    auth = BearerAuth(porter=porter)
    age(porter)
    vendor.world.revoke_access_tokens()
    with requests.Session() as session:
        reply = session.get(f"{vendor.address}/_sandbox/resource", auth=auth)
    assert reply.status_code == 200
    assert len(reply.history) == 1
    assert reply.request.hooks["response"] == []  # nor after a redirect of that
    assert (vendor.count("refresh"), vendor.count("resource")) == (1, 2)


def test_ten_parallel_401s_cause_one_exchange(porter: nightporter.Porter, vendor: Vendor) -> None:
    auth = BearerAuth(porter=porter)
    age(porter)
    vendor.world.revoke_access_tokens()
    vendor.world.latency_s = 0.2
    codes: list[int] = []

    def ask() -> None:
        with requests.Session() as session:
            codes.append(session.get(f"{vendor.address}/_sandbox/resource", auth=auth).status_code)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 10
    assert vendor.count("refresh") == 1


def test_a_401_on_a_young_token_goes_to_the_caller(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    auth = BearerAuth(porter=porter)
    porter.get_token()
    vendor.world.revoke_access_tokens()
    with requests.Session() as session:
        assert session.get(f"{vendor.address}/_sandbox/resource", auth=auth).status_code == 401
    assert vendor.count("refresh") == 0


def test_a_permission_problem_is_not_met_with_one_exchange_after_another(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    auth = BearerAuth(porter=porter)
    with requests.Session() as session:
        for _ in range(5):
            age(porter)
            vendor.world.revoke_access_tokens()
            vendor.world.expires_in = 1  # what comes is refused too
            session.get(f"{vendor.address}/_sandbox/resource", auth=auth)
            vendor.world.expires_in = 3600
    assert vendor.count("refresh") <= 3


def test_a_redirect_elsewhere_gets_no_token_back(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    seen: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/go":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{port}/there")
            else:
                seen.append(self.headers.get("Authorization"))
                self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    age(porter)
    with requests.Session() as session:
        reply = session.get(f"http://127.0.0.1:{port}/go", auth=BearerAuth(porter=porter))
    server.shutdown()
    server.server_close()
    assert reply.status_code == 401
    assert seen == [None]


def test_a_body_is_sent_whole_again(
    porter: nightporter.Porter, vendor: Vendor, tmp_path: Path
) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"x" * 1000)
    age(porter)
    vendor.world.revoke_access_tokens()
    with requests.Session() as session, file.open("rb") as body:
        reply = session.get(
            f"{vendor.address}/_sandbox/resource", data=body, auth=BearerAuth(porter=porter)
        )
    assert reply.status_code == 200
    assert reply.request.headers["Content-Length"] == "1000"


def test_httpx(porter: nightporter.Porter, vendor: Vendor) -> None:
    age(porter)
    vendor.world.revoke_access_tokens()
    with httpx.Client(auth=httpx_auth(porter=porter), trust_env=False) as client:
        assert client.get(f"{vendor.address}/_sandbox/resource").status_code == 200
    assert vendor.count("refresh") == 1


def test_asyncio_does_not_block_the_loop(porter: nightporter.Porter, vendor: Vendor) -> None:
    vendor.world.latency_s = 0.5

    async def main() -> tuple[int, str]:
        ticks = 0
        asked = asyncio.create_task(porter.aget_token())
        while not asked.done():
            await asyncio.sleep(0.02)
            ticks += 1
        return ticks, (await asked).value

    ticks, value = asyncio.run(main())
    assert ticks > 5
    assert vendor.world.is_live(value)


def test_two_event_loops_and_a_cancellation(porter: nightporter.Porter, vendor: Vendor) -> None:
    vendor.world.latency_s = 0.3

    async def cancelled() -> None:
        asked = asyncio.create_task(porter.aget_token())
        await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(cancelled())
    values: list[str] = []
    loops = [
        threading.Thread(target=lambda: values.append(asyncio.run(porter.aget_token()).value))
        for _ in range(2)
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert len(set(values)) == 1
    assert vendor.count("sign-in") == 1


def test_a_body_that_is_used_up_is_not_sent_again_empty(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    age(porter)
    vendor.world.revoke_access_tokens()
    with requests.Session() as session:
        reply = session.get(
            f"{vendor.address}/_sandbox/resource",
            data=iter([b"a", b"b"]),
            auth=BearerAuth(porter=porter),
        )
        assert reply.status_code == 401
        assert vendor.count("resource") == 1
        again = session.get(f"{vendor.address}/_sandbox/resource", auth=BearerAuth(porter=porter))
    assert again.status_code == 200  # the refused token is not served again


def test_once_in_five_minutes_holds_for_an_instance_a_call(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    with requests.Session() as session:
        for _ in range(5):
            age(porter)
            vendor.world.revoke_access_tokens()
            session.get(f"{vendor.address}/_sandbox/resource", auth=BearerAuth(porter=porter))
    assert vendor.count("refresh") == 1


def test_httpx_async(porter: nightporter.Porter, vendor: Vendor) -> None:
    age(porter)
    vendor.world.revoke_access_tokens()

    async def main() -> int:
        async with httpx.AsyncClient(auth=httpx_auth(porter=porter), trust_env=False) as client:
            return (await client.get(f"{vendor.address}/_sandbox/resource")).status_code

    assert asyncio.run(main()) == 200
    assert vendor.count("refresh") == 1


def test_httpx_async_a_stream_is_not_sent_again(porter: nightporter.Porter, vendor: Vendor) -> None:
    """It is used up."""
    age(porter)
    vendor.world.revoke_access_tokens()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"

    async def main() -> int:
        async with httpx.AsyncClient(auth=httpx_auth(porter=porter), trust_env=False) as client:
            address = f"{vendor.address}/_sandbox/resource"
            return (await client.request("GET", address, content=pieces())).status_code

    assert asyncio.run(main()) == 401
    assert (vendor.count("refresh"), vendor.count("resource")) == (0, 1)


@contextlib.contextmanager
def always(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer: its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Always(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Always) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_nothing_but_a_401_is_about_the_token(
    porter: nightporter.Porter, vendor: Vendor, status: int
) -> None:
    """Another token would fare no better."""
    age(porter)

    async def ask(address: str) -> int:
        async with httpx.AsyncClient(auth=httpx_auth(porter=porter), trust_env=False) as client:
            return (await client.get(f"{address}/3")).status_code

    with always(status) as (address, asked), requests.Session() as session:
        codes = [session.get(f"{address}/1", auth=BearerAuth(porter=porter)).status_code]
        with httpx.Client(auth=httpx_auth(porter=porter), trust_env=False) as client:
            codes.append(client.get(f"{address}/2").status_code)
        codes.append(asyncio.run(ask(address)))
    assert (codes, asked) == ([status] * 3, ["/1", "/2", "/3"])
    assert vendor.count("refresh") == 0


def test_a_failing_renewal_leaves_the_401_to_the_caller(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    age(porter)
    vendor.world.revoke_access_tokens()
    vendor.fail({"kind": "status", "status": 400, "times": 9, "body": {"error": "invalid_request"}})
    with requests.Session() as session:
        reply = session.get(f"{vendor.address}/_sandbox/resource", auth=BearerAuth(porter=porter))
    assert reply.status_code == 401
