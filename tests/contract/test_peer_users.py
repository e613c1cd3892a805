"""Who is at the other end of a loopback connection, by the kernel's own table."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from nightporter.machine import peers


def pair(family: socket.AddressFamily, address: str) -> tuple[socket.socket, socket.socket]:
    with socket.socket(family) as listening:
        listening.bind((address, 0))
        listening.listen()
        calling = socket.create_connection(listening.getsockname()[:2])
        try:
            answering, _ = listening.accept()
        except OSError:
            calling.close()
            raise
    return calling, answering


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="this system lists no connections")
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_our_own_call_is_ours(family: socket.AddressFamily, address: str) -> None:
    try:
        calling, answering = pair(family, address)
    except OSError as exc:
        if address != "::1" or exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        pytest.skip("this machine has no IPv6")
    with calling, answering:
        assert peers.user_of_peer(answering) == os.geteuid()
        assert not peers.is_strange(answering, {})


def test_a_unix_socket_has_no_row() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peers.user_of_peer(one) is None
        assert not peers.is_strange(one, {})


@pytest.mark.parametrize(
    ("row", "user"),
    [
        ("0: {peer} {ours} 01 0:0 00:0 0 54321 0 1", 54321),
        ("0: {ours} {peer} 01 0:0 00:0 0 54321 0 1", None),  # that is our own end
        ("0: {peer} {ours} 01 0:0 00:0 0 who 0 1", None),
        ("0: {peer} {ours}", None),
        ("", None),
        ("\xff", None),
        (None, None),
    ],
)
def test_a_table_that_tells_nothing_accuses_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str | None, user: int | None
) -> None:
    """Nor does one that is not there."""
    table = tmp_path / "tcp"
    monkeypatch.setattr(peers, "TABLES", {socket.AF_INET: str(table)})
    calling, answering = pair(socket.AF_INET, "127.0.0.1")
    with calling, answering:
        ends = {
            "peer": peers._spelling(socket.AF_INET, answering.getpeername()),
            "ours": peers._spelling(socket.AF_INET, answering.getsockname()),
        }
        if row is not None:
            table.write_text(f"  sl  local_address\n{row.format(**ends)}\n", encoding="latin-1")
        assert peers.user_of_peer(answering) == user
        assert peers.is_strange(answering, {}) == (user is not None)


def test_an_address_is_spelled_as_the_kernel_does() -> None:
    """proc(5): 32 bits at a time in the machine's order; here as on a little-endian one."""
    if sys.byteorder == "little":
        assert peers._spelling(socket.AF_INET, ("127.0.0.1", 80)) == "0100007F:0050"
        assert (
            peers._spelling(socket.AF_INET6, ("::1", 8080))
            == "00000000000000000000000001000000:1F90"
        )
