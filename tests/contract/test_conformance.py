"""Every vendor's row against its personality: sign-in or seed, refresh, rotation, a dead token, a
busy vendor, a refused client, a lost answer, a narrower scope, a told life.

The real session code on four hosts, over one store, with a clock that is stepped; the vendor is the
sandbox's, without a wire. Rows of one's own are held to the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from lab.worlds.simulated import Clock, Wireless, session_of
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    CredentialsRefusedError,
    IssuerBusyError,
    LoginRequiredError,
    NightporterError,
    SessionRejectedError,
)
from nightporter.core.model import (
    Ask,
    Grant,
    Profile,
    Rotation,
    Secret,
    SessionRecord,
    Token,
    Vendor,
)
from nightporter.issuers import VENDORS, oauth2
from nightporter.issuers.oauth import Call, Response, error_words
from nightporter.session.engine import obtain
from nightporter.session.port import ABSENT
from nightporter.session.repository import Session
from nightporter.simulator.world import World, world_of
from nightporter.stores import STORES
from nightporter.stores.memory import MemoryStore

HOSTS, ASKS = 4, 2
START = 1_784_037_600
MEMBERS = {
    "username": "svc",
    "password": "pw",
    "client_id": "demo-client",
    "client_secret": "demo-secret",
    "partner_id": 0,
}
OWN = """
[vendors.own-rotating]
request_body = "json"
token_endpoint = "{base_url}/in/token"
grants = ["password", "refresh_token"]
rotation = "rotates"
grace = "5m"
life_field = "left"
token_types = ["user"]
extra_output = ["api_url"]
dead_errors = ["the token is gone"]
busy_errors = ["LATER"]
refused_errors = ["who are you"]

[vendors.own-reused]
token_endpoint = "{base_url}/in/token"
token_endpoint_auth_method = "client_secret_post"
rotation = "reused"
refresh_token_life = "7d"
dead_errors = ["no more"]
"""
NAMES = [*VENDORS, "own-rotating", "own-reused"]


@dataclass
class Scene:
    """Four hosts with one session, and their vendor."""

    profile: Profile
    room: Path
    clock: Clock = field(default_factory=lambda: Clock(START))

    def __post_init__(self) -> None:
        first = World(users={"svc": "pw"}, clock=self.clock)
        self.world = world_of(self.profile.vendor, first)
        self.wire = Wireless(self.world)
        self.store = MemoryStore(clock=self.clock)
        self.store.write("c", MEMBERS, ABSENT, None, timeout_s=1)
        self.hosts = [self._host(number) for number in range(HOSTS)]

    def _host(self, number: int) -> Session:
        return session_of(
            self.profile, self.store, self.wire, self.clock, self.room, f"host-{number}"
        )

    @property
    def vendor(self) -> Vendor:
        return self.profile.vendor

    @property
    def record(self) -> SessionRecord:
        found = self.hosts[0].read(self.clock.now + 30).record
        assert found is not None
        return found

    def begin(self) -> None:
        """A session, however this vendor's begin; nothing is asked for yet."""
        if not self.profile.grant.is_unattended:
            seed = self.world.new_refresh_token()
            self.hosts[0].store_login(
                Secret(seed),
                issued_at=int(self.clock.now),
                client=None,
                issued=None,
                deadline=self.clock.now + 30,
            )

    def ask(self, host: int = 0, *, is_forced: bool = False) -> Token:
        ask = Ask(deadline=self.clock.now + 30, min_ttl_s=60, is_forced=is_forced)
        return obtain(self.hosts[host], ask)

    def everybody_asks(self) -> list[NightporterError | None]:
        """Every host twice; each ask that failed by its error."""
        return [self._failure_of(host) for host in range(HOSTS) for _ in range(ASKS)]

    def _failure_of(self, host: int) -> NightporterError | None:
        self.clock.now += 1
        try:
            self.ask(host, is_forced=True)
        except NightporterError as exc:
            return exc
        return None

    def sends(self, call: str) -> int:
        return self.world.counts[call]


def members_of(body: str) -> Iterable[str]:
    """The names of what was sent: a form, or JSON."""
    return json.loads(body) if body.startswith("{") else parse_qs(body)


def profile_of(name: str, grant: str, more: str) -> Profile:
    lines = [f'issuer = "{name}"', 'credentials = "c"', more]
    if name == "oauth2":
        lines.append('token_endpoint = "https://v.example/oauth2/token"')
    elif name not in VENDORS or not VENDORS[name].base_url:
        lines.append('base_url = "https://v.example"')
    if grant:
        lines.append(f'grant = "{grant}"')
    text = OWN + "[profiles.p]\n" + "\n".join(lines)
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


Staged = Callable[..., Scene]


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    def stage(name: str, more: str = "", grant: str = "") -> Scene:
        return Scene(profile_of(name, grant, more), tmp_path)

    return stage


def seeded(name: str) -> str:
    """The grant by which the row's session outlives a sign-in: a person's, or a seed."""
    grants = profile_of(name, "", "").vendor.grants
    if Grant.PASSWORD in grants and Grant.REFRESH_TOKEN not in grants:
        return ""
    wanted = Grant.REFRESH_TOKEN if Grant.REFRESH_TOKEN in grants else Grant.AUTHORIZATION_CODE
    return wanted.value if len(grants) > 1 else ""


@pytest.fixture(params=NAMES)
def scene(request: pytest.FixtureRequest, staged: Staged) -> Scene:
    """A session of each row, begun."""
    found = staged(request.param, grant=seeded(request.param))
    found.begin()
    return found


def test_sign_in_or_seed_and_the_first_token(scene: Scene) -> None:
    token = scene.ask()
    assert token.token_type == "Bearer"
    assert scene.world.is_live(token.value)
    assert scene.record.refresh_token is not None
    assert dict(token.output) == {
        name: f"https://{name}.example" for name in scene.profile.options.get("extra_output", ())
    }


def test_a_refresh_brings_another_token_and_keeps_the_session(scene: Scene) -> None:
    """Rotated, replaced or reused: what is in the store works at the vendor."""
    scene.ask()
    for host in (1, 2, 3, 0):
        scene.clock.now += 7200
        token = scene.ask(host, is_forced=True)
        assert scene.world.is_live(token.value)
        held = scene.record.refresh_token
        assert held is not None
        assert scene.world.is_session_alive(held.reveal())
    assert scene.sends("reuse") == 0
    assert scene.sends("sign-in") == (1 if scene.profile.signs_in_unattended else 0)
    if scene.vendor.rotation is Rotation.ROTATES:
        assert len(scene.world.refresh_tokens) >= 5


def test_a_dead_token_is_sent_by_one_host_and_by_nobody_else(scene: Scene) -> None:
    """It is the only copy, so that host sends it once more, 2 s later, and then marks it. Where a
    machine can sign in, it is sent once."""
    scene.ask()
    scene.clock.now += 4000
    scene.world.revoke_all()
    before = len(scene.wire.sent)
    failures = scene.everybody_asks()
    dead = [body for _, call, body in scene.wire.sent[before:] if call == "refresh"]
    is_unattended = scene.profile.signs_in_unattended
    if is_unattended:
        assert failures == [None] * HOSTS * ASKS
        assert scene.sends("sign-in") == 2
    else:
        assert {type(failure) for failure in failures} == {SessionRejectedError}
        code = scene.record.rejected.error if scene.record.rejected else None
        assert all(f"{code})" in str(failure) for failure in failures)
        assert len(dead) == 2
        assert scene.record.rejected is not None


def test_a_busy_vendor_is_left_alone_by_the_fleet_and_nothing_is_lost(scene: Scene) -> None:
    """Its own word for it is no wrong password and no dead session."""
    scene.ask()
    scene.clock.now += 4000
    scene.world.faults.extend({"kind": "busy"} for _ in range(100))
    before = len(scene.wire.sent)
    failures = scene.everybody_asks()
    assert {type(failure) for failure in failures} == {IssuerBusyError}
    if scene.profile.is_exclusive:  # the others know of it by the record
        assert len(scene.wire.sent) - before <= 8
    scene.world.faults.clear()
    scene.clock.now += 3700
    assert scene.world.is_live(scene.ask(1, is_forced=True).value)


def test_a_refused_client_is_not_tried_again_by_the_fleet(scene: Scene) -> None:
    """Neither is the session lost by it."""
    if not scene.profile.needs_client or scene.vendor.is_adapted:
        pytest.skip("its refresh sends no client secret")
    scene.ask()
    scene.clock.now += 4000
    scene.world.clients = {"demo-client": "changed"}
    before = len(scene.wire.sent)
    failures = scene.everybody_asks()
    assert {type(failure) for failure in failures} == {CredentialsRefusedError}
    if scene.profile.is_exclusive:
        assert len(scene.wire.sent) - before <= 2
    assert scene.record.refresh_token is not None
    assert scene.record.rejected is None
    scene.world.clients = {"demo-client": "demo-secret"}
    scene.clock.now += 6 * 3600 + 60
    assert scene.world.is_live(scene.ask(2, is_forced=True).value)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_password_is_sent_twice_at_most(name: str, staged: Staged) -> None:
    if Grant.PASSWORD not in profile_of(name, "", "").vendor.grants:
        pytest.skip("it takes no password")
    is_only = len(profile_of(name, "", "").vendor.grants) == 1
    scene = staged(name, grant="" if is_only else "password")
    scene.world.users = {"svc": "changed"}
    failures = scene.everybody_asks()
    assert {type(failure) for failure in failures} == {CredentialsRefusedError}
    assert scene.sends("sign-in") <= 2


def test_a_lost_answer(scene: Scene) -> None:
    """Within a grace the token is sent again at once; a strict one not before 64 s have passed, and
    then once; a reused one is simply sent again."""
    scene.ask()
    scene.clock.now += 4000
    scene.world.faults.append({"kind": "lost", "call": "refresh"})
    before = scene.clock.now
    known = len(scene.wire.sent)
    failures = scene.everybody_asks()
    again = [at for at, call, _ in scene.wire.sent[known:] if call == "refresh"]
    if not scene.profile.is_strict:
        assert failures[1:] == [None] * 7
        assert scene.sends("reuse") == 0
    else:
        gap = again[1] - again[0]
        assert gap >= 64
        assert again[0] - before < 5
    if not scene.profile.is_strict:
        assert scene.world.is_live(scene.ask(3, is_forced=True).value)


def test_a_narrower_scope_is_told(scene: Scene, staged: Staged) -> None:
    if scene.vendor.is_adapted:
        pytest.skip("its document names no scopes")
    found = staged(scene.vendor.name, 'scopes = ["read", "write"]', seeded(scene.vendor.name))
    found.begin()
    found.world.scope = "read"
    found.ask()
    told = found.record.told
    assert told is not None
    assert told.missing == ("write",)
    has_scope = "scope" in members_of(found.wire.sent[-1][2])
    assert has_scope == found.vendor.members.get("scope_at_refresh", True)


TOLD = [name for name in NAMES if "life_field" in profile_of(name, "", "").options]


@pytest.mark.parametrize("name", TOLD)
def test_a_told_life_is_the_records_end(name: str, staged: Staged) -> None:
    """0, and no word at all, end nothing."""
    scene = staged(name, grant=seeded(name))
    scene.begin()
    assert scene.record.expires_at is None
    scene.world.refresh_life_s = 9000
    scene.ask()
    ends = int(scene.clock.now) + 9000
    assert scene.record.expires_at == ends
    scene.clock.now = ends + 1
    sent = len(scene.wire.sent)
    with pytest.raises(LoginRequiredError):
        scene.ask(1, is_forced=True)
    assert len(scene.wire.sent) == sent


@pytest.mark.parametrize("name", TOLD)
def test_a_life_of_0_is_no_life(name: str, staged: Staged) -> None:
    """Keycloak's offline sessions."""
    scene = staged(name, grant=seeded(name))
    scene.begin()
    field_name = scene.profile.options["life_field"]
    scene.world.refresh_life_s = None
    tokens = {"access_token": "a", "refresh_token": "r", field_name: 0}
    body = json.dumps(tokens).encode()
    reply = Response(status=200, headers={}, body=body)
    assert scene.hosts[0].issuer.parse(reply, Call.REFRESH).refresh_life_s is None


CODED = [
    name for name in NAMES if Grant.AUTHORIZATION_CODE in profile_of(name, "", "").vendor.grants
]


@pytest.mark.parametrize("name", CODED)
def test_a_code_is_exchanged_as_the_row_wants_it(name: str, staged: Staged) -> None:
    """RFC 6749 section 4.1 with PKCE; the address that a browser opens holds no secret."""
    if name in ("oauth2", "own-reused"):
        pytest.skip("its address is the profile's to name")
    scene = staged(name, 'scopes = ["read"]', grant="authorization_code")
    session, adapter = scene.hosts[0], scene.hosts[0].issuer
    assert isinstance(adapter, oauth2.Adapter)
    client = session.load_client(scene.clock.now + 30)
    verifier, back = Secret("v" * 43), "http://localhost:1"
    digest = hashlib.sha256(verifier.reveal().encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    url = adapter.authorization_url(
        scene.profile, redirect_uri=back, state="s", challenge=challenge, client=client
    )
    asked = {key: item[0] for key, item in parse_qs(url.partition("?")[2]).items()}
    assert asked["scope"] == "read"
    assert "secret" not in url
    for key, item in scene.profile.options.get("authorization_parameters", {}).items():
        assert asked[key] == item
    request = adapter.code_request(
        scene.profile,
        code=Secret(scene.world.authorize(asked)),
        redirect_uri=back,
        verifier=verifier,
        client=client,
    )
    reply = scene.wire.send(request, timeout_s=1)
    issued = adapter.parse(reply, Call.LOG_IN)
    assert issued.refresh_token is not None
    assert scene.world.is_session_alive(issued.refresh_token.reveal())


DEVICES = [name for name in NAMES if Grant.DEVICE_CODE in profile_of(name, "", "").vendor.grants]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_code_is_pending_until_somebody_enters_it(name: str, staged: Staged) -> None:
    """RFC 8628 section 3.5; GitHub says so in a 200."""
    scene = staged(name, grant="device_code")
    session, adapter = scene.hosts[0], scene.hosts[0].issuer
    assert isinstance(adapter, oauth2.Adapter)
    client = session.load_client(scene.clock.now + 30)
    _, started = scene.world.start_device("demo-client", "https://v.example")
    request = adapter.device_token_request(scene.profile, Secret(started["device_code"]), client)
    pending = scene.wire.send(request, timeout_s=1)
    assert error_words(json.loads(pending.body))[0] == "authorization_pending"
    scene.world.answer_device(started["user_code"], is_approved=True)
    issued = adapter.parse(scene.wire.send(request, timeout_s=1), Call.LOG_IN)
    assert issued.refresh_token is not None
    assert scene.world.is_session_alive(issued.refresh_token.reveal())
