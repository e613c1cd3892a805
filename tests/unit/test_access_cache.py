"""What a machine remembers of a profile: tokens, refused tokens, failures, early attempts; each
with the wall clock and the clock since boot stepped apart."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nightporter.core.errors import CredentialsRefusedError
from nightporter.core.model import Secret, Token
from nightporter.machine.access_cache import (
    AccessCache,
    Directory,
    Keyring,
    Memory,
    cache_key,
    drop_everywhere,
    sweep,
)
from nightporter.machine.installation import install_command

NOW, BOOT = 1_784_037_600.0, 5_000.0
DAY_S = 86_400


@dataclass
class Machine:
    """Two clocks and the mark of a boot, and places that outlive a process."""

    wall_s: float = NOW
    boot_s: float = BOOT
    mark: str | None = "boot-1"

    def __post_init__(self) -> None:
        self.tokens, self.notes = Memory(), Memory()

    def cache(self, profile: str = "p") -> AccessCache:
        """A process's view of the cache."""
        return AccessCache(
            profile,
            "k" * 32,
            tokens=self.tokens,
            notes=self.notes,
            clock=lambda: self.wall_s,
            boot_clock=lambda: self.boot_s,
            boot_mark=lambda: self.mark,
        )

    def step(self, *, wall_s: float = 0, boot_s: float = 0) -> None:
        self.wall_s += wall_s
        self.boot_s += boot_s

    def pass_s(self, seconds: float) -> None:
        self.step(wall_s=seconds, boot_s=seconds)

    def left_s(self) -> float | None:
        token = self.cache().load()
        return None if token is None else token.left_s(wall_s=self.wall_s, boot_s=self.boot_s)


TOKEN = Token(
    Secret("token-1"),
    token_type="Bearer",
    expires_at_s=int(NOW) + 3600,
    obtained_at_s=NOW,
    exchanged_at_s=NOW,
    generation=1,
    ends_s=BOOT + 3600,
    life_s=3600.0,
)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("step_s", [-7200, -600, -4, 4, 600, 7200])
def test_a_token_ends_by_the_clock_since_boot(machine: Machine, step_s: float) -> None:
    """A wall clock that is stepped by minutes or hours neither lengthens nor shortens a life."""
    machine.cache().keep(TOKEN)
    machine.step(wall_s=step_s)
    machine.pass_s(60)
    assert machine.left_s() == 3540


def test_after_another_boot_the_wall_clock_counts(machine: Machine) -> None:
    """The clock since boot begins at 0 again, and tells nothing of the token's age."""
    machine.cache().keep(TOKEN)
    machine.mark, machine.boot_s = "boot-2", 3.0
    machine.wall_s += 3000
    assert machine.left_s() == 600


def test_after_another_boot_a_token_from_the_future_is_a_miss(machine: Machine) -> None:
    """A clock that was set back would make it live for ever."""
    machine.cache().keep(TOKEN)
    machine.mark, machine.boot_s = "boot-2", 3.0
    machine.wall_s -= 60
    assert machine.left_s() is None


def test_a_system_that_names_no_boot_uses_the_wall_clock(machine: Machine) -> None:
    """Where /proc doesn't tell the boot, its clock may be another one's."""
    machine.mark = None
    machine.cache().keep(TOKEN)
    machine.step(wall_s=600, boot_s=1)
    assert machine.left_s() == 3000


def test_a_refused_token_is_dropped_and_stays_refused(machine: Machine) -> None:
    """Also where a copy of it comes back: another process's memory, a restored file."""
    machine.cache().keep(TOKEN)
    machine.cache().refuse("token-1")
    assert machine.cache().load() is None
    machine.cache().keep(TOKEN)
    assert machine.cache().is_refused("token-1")


def test_a_refused_token_is_refused_for_a_week(machine: Machine) -> None:
    """No token that is adopted lives longer than a day."""
    machine.cache().refuse("token-1")
    assert not machine.cache().is_refused("token-2")
    machine.pass_s(7 * DAY_S - 1)
    assert machine.cache().is_refused("token-1")


def test_a_second_refusal_keeps_the_first(machine: Machine) -> None:
    """Two tokens are refused after two reports."""
    machine.cache().refuse("token-1")
    machine.pass_s(5)
    machine.cache().refuse("token-2")
    assert machine.cache().is_refused("token-1")
    assert machine.cache().is_refused("token-2")


def test_refused_is_refused_under_any_identity(machine: Machine) -> None:
    """The memory is the profile's, and no other profile's."""
    machine.cache().refuse("token-1")
    assert not machine.cache("q").is_refused("token-1")


def test_forgetting_leaves_what_is_refused(machine: Machine) -> None:
    """A logout drops the token, and not the memory that it was refused."""
    machine.cache().keep(TOKEN)
    machine.cache().refuse("token-1")
    machine.cache().forget()
    assert machine.cache().is_refused("token-1")


@pytest.mark.parametrize(("age_s", "is_remembered"), [(0, True), (4.9, True), (5.1, False)])
def test_a_failure_is_remembered_for_five_seconds(
    machine: Machine, age_s: float, is_remembered: bool
) -> None:
    """A failing helper is run several times at once, and must not ask each time."""
    machine.cache().keep_failure(CredentialsRefusedError("no", error="access_denied"))
    machine.pass_s(age_s)
    found = machine.cache().failure()
    assert (found is not None) == is_remembered
    if found is not None:
        assert isinstance(found, CredentialsRefusedError)
        assert (found.message, found.error) == ("no", "access_denied")


def test_a_failure_from_the_future_is_forgotten(machine: Machine) -> None:
    """A clock that was set back must not make a failure last."""
    machine.cache().keep_failure(CredentialsRefusedError("no"))
    machine.step(wall_s=-3600)
    assert machine.cache().failure() is None


@pytest.mark.parametrize(("age_s", "is_remembered"), [(0, True), (59, True), (61, False)])
def test_an_early_attempt_is_remembered_for_a_minute(
    machine: Machine, age_s: float, is_remembered: bool
) -> None:
    """All commands of a machine try once a minute to renew ahead."""
    assert not machine.cache().tried_early()
    machine.cache().note_early_try()
    machine.pass_s(age_s)
    assert machine.cache().tried_early() == is_remembered


def test_an_early_attempt_from_the_future_is_forgotten(machine: Machine) -> None:
    """A clock that was set back must not stop renewals."""
    machine.cache().note_early_try()
    machine.step(wall_s=-3600)
    assert not machine.cache().tried_early()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": 99}',
        b'{"schema": 1, "access_token": "a b", "token_type": "Bearer"}',
        b"\xff\xfe",
    ],
)
def test_what_is_corrupt_is_a_miss(machine: Machine, content: bytes) -> None:
    """A torn or foreign file costs an exchange and raises nothing."""
    cache = machine.cache()
    cache.keep(TOKEN)
    for name in (f"p.{'k' * 32}.token", "p.refused", f"p.{'k' * 32}.failure"):
        machine.tokens.keep(name, content)
        machine.notes.keep(name, content)
    assert (cache.load(), cache.is_refused("token-1"), cache.failure()) == (None, False, None)


@pytest.mark.parametrize(
    "number", [10**400, 253_402_300_800, -1, float("inf"), float("-inf"), float("nan")]
)
@pytest.mark.parametrize("member", ["expires_at", "obtained_at", "exchanged_at", "ends", "life"])
def test_a_time_that_no_clock_shows_is_a_miss(machine: Machine, member: str, number: float) -> None:
    cache = machine.cache()
    cache.keep(TOKEN)
    name = f"p.{'k' * 32}.token"
    entry = json.loads(machine.tokens.load(name) or b"")
    assert cache.load() is not None
    machine.tokens.keep(name, json.dumps({**entry, member: number}).encode())
    assert cache.load() is None
    machine.tokens.keep(name, json.dumps({**entry, "expires_at": 253_402_300_799}).encode())
    assert cache.load() is not None


def cache_in(directory: Path, profile: str, key: str = "k" * 32) -> AccessCache:
    place = Directory((str(directory),))
    return AccessCache(profile, key, tokens=place, notes=place, clock=lambda: NOW)


def test_logout_drops_what_is_cached_of_its_own_profile_alone(tmp_path: Path) -> None:
    """Under any identity, and in all cache places; another profile's token and lock stay."""
    for directory in (tmp_path / "a", tmp_path / "b"):
        for profile in ("p", "q"):
            cache_in(directory, profile).keep(TOKEN)
        cache_in(directory, "p", "l" * 32).keep(TOKEN)
        with cache_in(directory, "q").lock(0.0) as won:
            assert won
    kept = {f"q.{'k' * 32}.token", f"q.{'k' * 32}.lock"}
    places = (str(tmp_path / "a"), str(tmp_path / "absent"), str(tmp_path / "b"))
    assert drop_everywhere("p", places) == 4
    for directory in (tmp_path / "a", tmp_path / "b"):
        assert {path.name for path in directory.iterdir()} == kept


@pytest.mark.parametrize(
    ("count", "age_s", "left"), [(21, DAY_S + 1, 0), (21, DAY_S, 21), (20, DAY_S + 1, 20)]
)
def test_tokens_that_ended_a_day_ago_are_swept_with_what_lies_beside_them(
    tmp_path: Path, count: int, age_s: int, left: int
) -> None:
    """Where there are more than twenty: identities that change often would leave files for ever."""
    for number in range(count):
        cache = cache_in(tmp_path, f"p{number}")
        cache.keep(TOKEN)
        cache.note_early_try()
    swept = sweep(str(tmp_path), TOKEN.expires_at_s + age_s)
    assert swept == 2 * (count - left)
    assert len(list(tmp_path.iterdir())) == 2 * left


def test_an_identity_is_named_by_all_of_its_parts() -> None:
    """Bytes of a path that are no UTF-8 are parts like any other."""
    names = {cache_key(parts) for parts in (("a", "b"), ("ab",), ("a", "b", None), ("\udcff",))}
    assert len(names) == 4
    assert {len(name) for name in names} == {32}


def test_a_keyring_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ModuleNotFoundError` alone tells a person nothing."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    said: list[str] = []
    assert Keyring(said.append).load("p") is None
    (line,) = said
    assert "needs the package 'keyring', which is not installed" in line
    assert f"`{install_command('keyring')}`" in line


def test_what_goes_with_a_token_is_kept_with_it() -> None:
    """The members of the vendor's reply that a client needs, and nothing that does not fit."""
    machine = Machine()
    token = Token(
        Secret("token-1"),
        token_type="Bearer",
        expires_at_s=int(NOW) + 3600,
        obtained_at_s=NOW,
        exchanged_at_s=NOW - 1,
        generation=7,
        ends_s=BOOT + 3600,
        life_s=3600.0,
        output={"instance_url": "https://a.example"},
    )
    machine.cache().keep(token)
    found = machine.cache().load()
    assert found is not None
    assert found.output == {"instance_url": "https://a.example"}
    assert (found.value, found.token_type, found.generation) == ("token-1", "Bearer", 7)
    assert (found.expires_at_s, found.exchanged_at_s) == (token.expires_at_s, NOW - 1)
    assert (found.ends_s, found.life_s) == (BOOT + 3600, 3600.0)


def test_what_is_released_is_in_memory_alone(tmp_path: Path) -> None:
    """Files stay for the next command; where no directory can be had there are none."""
    kept = Directory((str(tmp_path / "cache"),))
    lost = Directory(("/dev/null/nowhere",))
    memory = Memory()
    for place in (kept, lost, memory):
        place.keep("name", b"content")
        assert place.load("name") == b"content"
        place.release()
    assert (kept.load("name"), lost.load("name"), memory.load("name")) == (b"content", None, None)


def test_files_are_named_where_there_are_any(tmp_path: Path) -> None:
    """What the front door looks at."""
    machine = Machine()
    assert (machine.cache().token_file(), machine.cache().state_files()) == (None, [])
    machine.tokens = Directory((str(tmp_path / "tokens"),))  # type: ignore[assignment]  # on a disk
    machine.notes = Directory((str(tmp_path / "notes"),))  # type: ignore[assignment]  # on a disk
    token_file, (noted,) = machine.cache().token_file(), machine.cache().state_files()
    assert token_file is not None
    assert Path(token_file).parent == tmp_path / "tokens"
    assert token_file.endswith(".token")
    assert Path(noted).parent == tmp_path / "notes"
