"""Any bytes that a client writes, and any bytes in a reply file: what the door serves is what
Python would serve, and else Python gets the same bytes.

A few examples in the quick tier, where dash is the shell; bash and busybox with the clients;
`./scripts/fuzz doors` tries them at length.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.worlds.door import GET, KEPT, Room, ask_as_client, keep_helper_replies
from nightporter.machine import client_input
from nightporter.machine import reply as door

EXAMPLES = int(os.environ.get("NIGHTPORTER_DOOR_EXAMPLES", "25"))
SHELLS = [
    "dash",
    pytest.param("bash", marks=pytest.mark.clients),
    pytest.param("busybox", marks=pytest.mark.clients),
]
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # an ask changes nothing in it
)


@pytest.fixture(params=SHELLS)
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not on this machine")
    found = Room(tmp_path, request.param)
    assert found.leave()
    keep_helper_replies(found)
    return found


def twin(room: Room, words: list[str], given: bytes | None) -> str | None:
    """What Python serves from the same files."""
    found = door.answer(door.Ask(words, room.environment, given), time.time())
    return None if found is None else f"{found}\n"


@st.composite
def changed(draw: st.DrawFn, whole: bytes, odd: st.SearchStrategy[bytes]) -> bytes:
    """The same with pieces cut out of it, put into it, doubled or moved; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(whole)))
        to = draw(st.integers(at, min(len(whole), at + 40)))
        new = draw(odd | st.binary(max_size=4) | st.just(whole[at:to] * 2) | st.just(b""))
        whole = whole[:at] + new + whole[to:]
    return whole


ODD_BYTES = st.sampled_from(
    [b"\n", b"\n\n", b"\r\n", b"\0", b"\xff", b"\\", b"%s", b"$(id)", b"*", b" ", b"+", b"failed 1"]
)
ODD_LINES = st.sampled_from(
    [
        *(b"\n", b"\n\n", b"\0", b"\\", b"!/nowhere\n", b"!", b"-\n", b"9999999999\n", b"1\n"),
        *(b"nightporter reply 2", b" /", b"\nINPUT 1 2\n", b" bsd", b"0x1", b"1+1", b"VAULT_TOKEN"),
    ]
)


@pytest.mark.parametrize("protocol", KEPT)
@fuzzed
@given(data=st.data())
def test_any_ask_is_answered_as_python_would_or_reaches_it(
    protocol: str, room: Room, data: st.DataObject
) -> None:
    """NUL bytes, half asks, line ends of Windows, no line end at the end."""
    asked = data.draw(changed(KEPT[protocol], ODD_BYTES))
    found = ask_as_client(room, protocol, asked)
    cut = client_input.cut_at_blank if protocol == "git" else bytes
    if isinstance(found, str):
        assert found == twin(room, ["credential", protocol, "get"], cut(asked))
    else:
        assert cut(found) == cut(asked)


@pytest.mark.parametrize("protocol", [None, "git", "docker"])
@fuzzed
@given(data=st.data())
def test_any_reply_file_is_served_as_python_would_or_not_at_all(
    protocol: str | None, room: Room, data: st.DataObject
) -> None:
    """What the door takes for a reply is one for Python too, to the byte. (sh does not see NUL
    bytes. The file is this user's alone, and Python writes none.)"""
    words = ["token", "p"] if protocol is None else ["credential", protocol, "get"]
    asked = None if protocol is None else KEPT[protocol]
    file = room.cache / str(door.Ask(words, room.environment, asked).file_name)
    whole = file.read_bytes()
    try:
        content = data.draw(changed(whole, ODD_LINES))
        file.write_bytes(content.replace(b"\0", b""))
        expected = twin(room, words, asked)
        file.write_bytes(content)
        if protocol is None:
            served = room.ask(*words)
            assert served is None or f"{served}\n" == expected
        else:
            found = ask_as_client(room, protocol, KEPT[protocol])
            assert found == (expected if isinstance(found, str) else KEPT[protocol])
    finally:
        file.write_bytes(whole)


def test_the_kept_asks_are_answered(room: Room) -> None:
    """Else the two above would show nothing; git's not where `sed` is busybox'."""
    assert room.ask("token", "p") == "the reply"
    for protocol, asked in KEPT.items():
        found = ask_as_client(room, protocol, asked)
        is_handed_on = (protocol, room.shell) == ("git", "busybox")
        assert found == (
            GET if is_handed_on else twin(room, ["credential", protocol, "get"], asked)
        )
