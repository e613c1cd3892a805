"""Borders of a session's rules that single faults have shown to be held by nothing: what is sent
how often, what is said, who reads which secret."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest

from lab.still import BOOT, NOW, REUSED, ROTATING, SHARING, World, ask, profile, reply, world
from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerBusyError,
    LoginRequiredError,
    NewerRecordError,
    NightporterError,
    OutcomeUnknownError,
    SecretNotFoundError,
    SessionRejectedError,
    StoreBusyError,
    StoreElectingError,
    UsedElsewhereError,
    VersionConflictError,
)
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.model import (
    Ask,
    Attempt,
    Claim,
    Credentials,
    Identity,
    Refusal,
    Secret,
)
from nightporter.core.record import PendingResult, render_session
from nightporter.core.values import replace
from nightporter.issuers import issuer_for
from nightporter.session import effects
from nightporter.session.engine import Attempt as EngineAttempt
from nightporter.session.engine import obtain
from nightporter.session.lifecycle import Bar, Claimed
from nightporter.session.port import ABSENT, KEEP_EXPIRY, Version
from nightporter.session.repository import KnownCredentials
from nightporter.session.transitions import Snapshot, is_idle_news, marked_record, refused_until

OTHER = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)
LOST = OutcomeUnknownError("no answer")
ISSUED = reply(200, access_token="A2", refresh_token="R2", expires_in=600)
PUBLIC = (
    'issuer = "oauth2"\nbase_url = "https://i.example"\nclient_id = "i"\nrefresh_token = "r"\n'
    'token_endpoint = "https://i.example/t"\ngrant = "authorization_code"\nrotation = "rotates"\n'
    'token_endpoint_auth_method = "none"\n'
)


# What is sent, and how often.


def test_a_newer_version_s_record_is_left_alone() -> None:
    """Nothing is sent and nothing written: its members could be lost."""
    found = World()
    found.values["r"] = ({**render_session(found.record()), "schema": 99}, 1)
    before = dict(found.values)
    with pytest.raises(NewerRecordError, match="p: the record at 'r' was written by a newer"):
        obtain(found.session, ask())
    assert (found.sent, found.values) == ([], before)


@pytest.mark.parametrize("times", [2, 3])
def test_a_reused_token_is_sent_twice_at_most(times: int) -> None:
    """However much time is left."""
    found = world(REUSED, *[LOST] * times, generation=4)
    with pytest.raises(OutcomeUnknownError):
        obtain(found.session, Ask(deadline=BOOT + 600, min_ttl_s=60))
    assert len(found.sent) == 2


def test_who_waits_looks_soon_and_then_less_often() -> None:
    """The jitter is at its longest here."""
    found = world(ROTATING, generation=4, claim=OTHER)
    with pytest.raises(ClaimBusyError, match="other/1/1"):
        obtain(found.session, Ask(deadline=BOOT + 10, min_ttl_s=60))
    assert found.pauses[:3] == pytest.approx([0.21, 0.294, 0.4116])
    assert max(found.pauses) == 1.0


def test_a_claim_ends_after_its_life_by_the_store_s_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = world(ROTATING, ISSUED, generation=4)
    claims: list[Mapping[str, Any]] = []
    write = found.write

    def noted(path: str, value: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        if value.get("claim"):
            claims.append(value["claim"])
        return write(path, value, *rest, **more)

    monkeypatch.setattr(found, "write", noted)
    obtain(found.session, ask())
    (claim,) = claims
    assert parse_rfc3339(claim["until"]) == NOW + 64


def test_a_conflict_is_another_s_word_and_not_tried_again() -> None:
    """But where a person's session is written."""
    tries: list[float] = []

    def call(_timeout_s: float) -> Any:
        tries.append(0.0)
        raise VersionConflictError("another writer was first")
        yield

    records = World().session.records
    with pytest.raises(VersionConflictError):
        list(records.retrying(call, BOOT + 30))
    assert len(tries) == 1
    flow = records.retrying(call, BOOT + 30, is_conflict_retried=True)
    assert isinstance(next(flow), effects.Sleep)
    assert len(tries) == 2


def test_an_issuer_s_words_about_a_refusal_are_told_and_kept() -> None:
    """Without the secret that it has seen."""
    refusal = reply(401, error="invalid_grant", error_description="user svc, secret: locked")
    found = world(SHARING, refusal)
    with pytest.raises(CredentialsRefusedError):
        obtain(found.session, ask())
    (said,) = (facts["words"] for event, facts in found.events if event == "issuer-says")
    assert "locked" in said
    assert "secret" not in said
    told = found.kept().told
    assert told is not None
    assert told.words == said


def test_a_mark_of_another_token_blames_nobody() -> None:
    """There is a newer one, which nobody has refused."""
    found = world(ROTATING, generation=4)
    attempt = EngineAttempt(found.session, ask())
    for digest, kind in ((None, SessionRejectedError), ("01234567", LoginRequiredError)):
        marked = marked_record(found.record(), error="invalid_grant", now=NOW)
        assert marked.rejected is not None
        if digest:
            marked = replace(marked, rejected=replace(marked.rejected, digest=digest))
        error = attempt.person_needed(Snapshot(version=found.seen().version, record=marked))
        assert type(error) is kind


def test_what_waits_on_this_disk_is_put_back_before_anything_is_sent() -> None:
    """It is the only copy of a token that was paid for."""
    found = world(ROTATING, ISSUED, generation=4)
    result = replace(found.record(), refresh_token=Secret("R9"), generation=5, claim=None)
    found.waiting = [
        PendingResult(nonce="n", record=render_session(result), at=NOW, is_sign_in=False, name="w")
    ]
    obtain(found.session, ask())
    assert "R9" in str(found.sent[0].body)
    assert found.waiting == []


@pytest.mark.parametrize("text", [REUSED, ROTATING])
def test_a_refused_refresh_leaves_the_issuer_s_words(text: str) -> None:
    """And so does an answer that can't be used, whatever it was to."""
    for status, members in ((400, {"error": "invalid_grant"}), (400, {"error": "invalid_scope"})):
        refusal = reply(status, error_description="somebody pulled the plug", **members)
        found = world(text, *[refusal] * 5, generation=4)
        with pytest.raises(NightporterError):
            obtain(found.session, ask())
        words = [facts["words"] for event, facts in found.events if event == "issuer-says"]
        assert "pulled the plug" in words[0]


def test_a_reused_token_that_was_used_before_is_no_theft() -> None:
    """That is what it is for."""
    rejected = reply(400, error="invalid_grant", error_description="token was already used")
    found = world(REUSED + 'role = "refresh-only"\n', rejected, rejected, generation=4)
    with pytest.raises(SessionRejectedError) as caught:
        obtain(found.session, ask())
    assert not isinstance(caught.value, UsedElsewhereError)
    assert "used-elsewhere" not in [event for event, _ in found.events]


def test_without_a_record_nobody_used_it_elsewhere() -> None:
    attempt = EngineAttempt(World(ROTATING).session, ask())
    assert attempt.elsewhere(Snapshot(version=ABSENT)) is None


def test_a_theft_that_the_record_tells_of_is_told_of_ours_alone() -> None:
    found = world(ROTATING, generation=4)
    attempt = EngineAttempt(found.session, ask())
    marked = marked_record(found.record(), error="invalid_grant", now=NOW)
    assert marked.rejected is not None
    stolen = replace(marked, rejected=replace(marked.rejected, is_elsewhere=True))
    version = found.seen().version
    assert attempt.elsewhere(Snapshot(version=version, record=marked)) is None
    assert isinstance(
        attempt.elsewhere(Snapshot(version=version, record=stolen)), UsedElsewhereError
    )
    strange = replace(stolen, identity=Identity(issuer="x", token_endpoint="y"))
    assert attempt.elsewhere(Snapshot(version=version, record=strange)) is None


def test_the_loser_of_a_claim_looks_again_at_once() -> None:
    """The jitter is at its longest here."""
    found = world(ROTATING, ISSUED, generation=4)
    found.write_errors = [VersionConflictError("another")]
    obtain(found.session, ask())
    assert found.pauses == [0.15]


@pytest.mark.parametrize(("left_s", "tries"), [(0.2, 1), (0.26, 2)])
def test_a_store_is_tried_again_while_there_is_time_for_a_pause(left_s: float, tries: int) -> None:
    found = World()
    calls: list[float] = []

    def call(_timeout_s: float) -> Any:
        calls.append(0.0)
        raise StoreBusyError("busy")
        yield

    flow = found.session.records.retrying(call, BOOT + left_s)
    with pytest.raises(StoreBusyError):
        for effect in flow:
            assert isinstance(effect, effects.Sleep)
            found.sleep(effect.seconds)
    assert len(calls) == tries


def test_a_busy_issuer_is_asked_five_times_within_one_ask() -> None:
    busy = [reply(503)] * 9
    found = world(REUSED, *busy, generation=4)
    with pytest.raises(IssuerBusyError):
        obtain(found.session, Ask(deadline=BOOT + 600, min_ttl_s=60))
    assert len(found.sent) == 5


def test_an_election_is_waited_for_as_long_as_there_is_time() -> None:
    """However many tries that takes; what else may pass is tried five times."""
    for error, tries in ((StoreElectingError("electing"), 9), (StoreBusyError("busy"), 5)):
        found = World()
        calls: list[float] = []

        def call(_timeout_s: float, calls: Any = calls, error: Any = error) -> Any:
            calls.append(0.0)
            if len(calls) < 9:
                raise error
            return "done"
            yield

        flow = found.session.records.retrying(call, BOOT + 600)
        with contextlib.suppress(StoreBusyError):
            for effect in flow:
                assert isinstance(effect, effects.Sleep)
                found.sleep(effect.seconds)
        assert len(calls) == tries


def test_a_claim_that_is_not_held_is_older_than_any() -> None:
    """Nothing is sent under it."""
    lease = World().exchange().lease
    assert lease.age_s() == float("inf")
    assert not lease.may_begin()


# What a call may be made for.


def test_nothing_known_of_the_credentials_bars_nothing() -> None:
    """But an issuer that wants to be left alone."""
    found = World()
    assert found.exchange().sight.sign_in_bar(found.seen()) == (Bar.NOTHING, 0)


@pytest.mark.parametrize(("news_from", "is_answer"), [(3, True), (4, False), (None, False)])
def test_a_forced_ask_is_answered_by_what_its_lost_exchange_brought(
    news_from: int | None, is_answer: bool
) -> None:
    """What was there before is no answer."""
    found = World()
    sight = found.exchange(min_ttl_s=5, is_forced=True).sight
    sight.news_from, sight.lost = news_from, LOST
    assert sight.is_shared_fresh(found.seen()) is is_answer


@pytest.mark.parametrize(
    ("age_s", "count", "claimed"),
    [
        (17.0, 1, Claimed.LAPSED),
        (17.0, 2, Claimed.BUSY),
        (33.0, 2, Claimed.LAPSED),
    ],
)
def test_a_slow_sign_in_is_waited_for_where_two_came_to_nothing(
    age_s: float, count: int, claimed: Claimed
) -> None:
    """Nobody may sign in anyway."""
    found = World(SHARING)
    sight = found.exchange().sight
    sight.known.credentials = KnownCredentials(credentials=Credentials(version="1"), key="k")
    attempts = {"k": Attempt(count=count, at=NOW)}
    seen = replace(found.seen(claim=OTHER, attempts=attempts, refresh_token=None), age_s=age_s)
    assert sight.claimed(seen, sight.holding(seen)) is claimed


@pytest.mark.parametrize(
    ("version", "until"), [("unknown", NOW + 9), ("1", NOW + 9), ("9/1", NOW + 9), ("2", 0)]
)
def test_a_refusal_of_an_older_edition_counts_by_its_version(version: str, until: int) -> None:
    """One that names none is about whatever is there."""
    refusal = Refusal(credentials_version=version, until=NOW + 9, count=1, error="e")
    seen = World().seen(refused=refusal)
    found = refused_until(seen, key="k", version="1", is_own=True, now=NOW)
    assert found == until


def test_news_of_an_ask_whose_answer_was_lost_are_taken() -> None:
    """As those are that were waited for."""
    found = World()
    sight = found.exchange(min_ttl_s=600).sight
    sight.news_from = 3
    assert not sight.is_shared_fresh(found.seen())
    sight.lost = LOST
    assert sight.is_shared_fresh(found.seen())


def test_an_idle_session_s_exchange_is_news_after_an_eighth_of_its_life() -> None:
    """Without a time on both sides there is nothing to compare."""
    idle = profile(PUBLIC + 'idle_life = "8h"\n')
    assert idle.idle_life_s == 8 * 3600
    record = World().record(exchanged_at=NOW, issued_at=None)
    later = replace(record, exchanged_at=NOW + 3601)
    assert is_idle_news(record, later, idle)
    assert not is_idle_news(record, replace(record, exchanged_at=NOW + 3600), idle)
    unknown = replace(record, exchanged_at=None)
    assert not is_idle_news(unknown, later, idle)
    assert not is_idle_news(later, unknown, idle)
    assert not is_idle_news(record, later, profile(PUBLIC))


def test_a_life_that_is_not_stated_ends_at_the_midnight() -> None:
    """Of the row's zone: a token of midnight itself has none left."""
    row = profile(PUBLIC + 'refresh_token_midnight = "America/New_York"\n')
    midnight = 1_784_174_400
    issuer = issuer_for(row)
    assert issuer.refresh_expires_at(row, midnight) == midnight
    assert issuer.refresh_expires_at(row, midnight - 1) == midnight
    assert issuer.refresh_expires_at(row, midnight + 1) == midnight + 86_400


def test_a_public_client_s_refresh_needs_its_id_alone() -> None:
    """Which the profile holds; still it goes through what reads a client."""
    assert profile(PUBLIC).needs_client
    assert not profile('issuer = "pitchpoint"\ncredentials = "c"\n').needs_client


# Who reads which secret.


def test_a_profile_without_a_secret_needs_none_where_it_names_its_client() -> None:
    found = World(PUBLIC)
    assert found.session.load_credentials(BOOT + 5).version == ""
    assert found.session.load_client(BOOT + 5).version == ""
    found = World(ROTATING)
    with pytest.raises(SecretNotFoundError, match="profile 'p' names no `credentials`"):
        found.session.load_credentials(BOOT + 5)


def test_a_client_s_secret_is_read_where_it_is_named() -> None:
    """Beside a `client_id` of the profile as well."""
    found = World(PUBLIC + 'client = "k"\n')
    found.values["k"] = ({"client_secret": "s"}, 5)
    client = found.session.load_client(BOOT + 5)
    assert (client.version, client.client_secret) == ("5", Secret("s"))


def test_credentials_are_read_for_the_client_unless_the_role_reads_none() -> None:
    found = World(PUBLIC + 'credentials = "c"\n')
    found.values["c"] = ({"client_secret": "s"}, 6)
    assert found.session.load_client(BOOT + 5).version == "6"
    found = World(PUBLIC + 'credentials = "c"\nrole = "refresh-only"\n')
    found.values["c"] = ({"client_secret": "s"}, 6)
    assert found.session.load_client(BOOT + 5).version == ""


# Defaults.


def test_keeping_the_expiry_asks_for_no_life_of_its_own() -> None:
    assert KEEP_EXPIRY.life_s == 0


def test_a_version_that_names_none_goes_on_from_nothing() -> None:
    assert (Version("v").floor, Version("v").proof) == (0, "")


def test_a_look_without_a_record_has_nothing() -> None:
    assert Snapshot(version=World().seen().version).record is None
