"""What the scheduled job asks of store and issuer for one profile: each is a round trip, and a
fleet of thousands makes all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab.worlds.vendor import Vendor
from nightporter import Porter
from nightporter.operations.rotate import Report, rotate_one
from nightporter.session.port import ABSENT
from nightporter.stores.local import LocalStore

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the store was asked, by the kind of call."""
    found: Counter[str] = Counter()
    for name in ("read", "write", "sweep", "delete"):
        usual = getattr(LocalStore, name)

        def counted(
            store: LocalStore, *given: Any, name: str = name, usual: Any = usual, **named: Any
        ) -> Any:
            found[name] += 1
            return usual(store, *given, **named)

        monkeypatch.setattr(LocalStore, name, counted)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An embedded store that holds the credentials and no session."""
    credentials = {"username": "svc-acme", "password": "correct-horse"}
    LocalStore(str(tmp_path / "store")).write("c", credentials, ABSENT, None, timeout_s=5)
    return tmp_path / "store"


def _rotated(place: Path, vendor: Vendor) -> Report:
    store = f'[stores.l]\ntype = "local"\npath = "{place}"\n'
    profile = (
        '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\nusername = "svc-acme"\n'
        f'refresh_token = "r"\nbase_url = "{vendor.address}"\n'
    )
    with Porter(store + profile, is_library=False, notify=lambda _text: None) as porter:
        return rotate_one(porter.broker_for("p"), timeout_s=20)


def test_a_sign_in_reads_three_times_and_writes_twice(
    calls: Counter[str], place: Path, vendor: Vendor
) -> None:
    """The record before and after, the credentials; the claim and the result."""
    calls.clear()
    assert _rotated(place, vendor).did == "sign-in"
    assert calls == {"read": 3, "write": 2, "sweep": 1}
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)


def test_where_nothing_is_due_the_record_is_read_once(
    calls: Counter[str], place: Path, vendor: Vendor
) -> None:
    """Most profiles on most days."""
    _rotated(place, vendor)
    calls.clear()
    if _rotated(place, vendor).did == "nothing":  # shortly before New York's midnight it isn't
        assert calls == {"read": 1, "sweep": 1}
