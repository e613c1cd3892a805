"""One exchange from what was in the record to what is in it afterwards: every way of failing, how
often and after which pauses something is sent again, and what the ask is told."""

from __future__ import annotations

from typing import Any

import pytest

from lab.still import BOOT, NOW, REUSED, ROTATING, SHARING, World, ask, profile, reply, world
from nightporter.core.errors import (
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerError,
    IssuerReplyError,
    IssuerUnreachableError,
    NightporterError,
    OutcomeUnknownError,
    ResultPendingError,
    SecretNotFoundError,
    SessionRejectedError,
    StoreBusyError,
    StoreDeniedError,
    StoreValueError,
)
from nightporter.core.model import Ask, Secret, Token
from nightporter.core.values import replace
from nightporter.session.engine import obtain
from nightporter.session.exchange import remedy

SIGN_IN = SHARING.replace('publish_access_token = "a"\n', "")
GRACE = ROTATING + "grace = 60\n"
ISSUED = reply(200, access_token="A2", refresh_token="R2", expires_in=600)
LOST = OutcomeUnknownError("no answer")
AWAY = IssuerUnreachableError("no connection")


def failure(of: World, kind: type[NightporterError]) -> Any:
    with pytest.raises(kind) as caught:
        obtain(of.session, Ask(deadline=BOOT + of.slept_s + 30, min_ttl_s=60))
    return caught.value


def names(of: World) -> list[str]:
    """Of the events, without single steps."""
    return [event for event, _ in of.events if event not in ("read", "step", "send", "save")]


# What goes well.


def test_a_sign_in_begins_a_session() -> None:
    """The record holds all of it before the token is handed out; no claim is left."""
    found = world(SIGN_IN, ISSUED)
    token = obtain(found.session, ask())
    kept = found.kept()
    assert (token.value, token.token_type, token.generation) == ("A2", "Bearer", 1)
    assert (token.ends_s, token.life_s) == (BOOT + found.slept_s + 600, 600)
    assert token.expires_at_s == NOW + found.slept_s + 600
    assert token.obtained_at_s == token.exchanged_at_s == NOW + found.slept_s
    assert (kept.refresh_token, kept.access_token) == (Secret("R2"), Secret("A2"))
    assert (kept.generation, kept.claim, kept.sent, kept.by) == (1, None, None, "h")
    assert kept.identity.username == "svc"
    assert (kept.attempts, kept.refused, kept.busy) == ({}, None, None)
    assert found.noted[-1] == (kept.lineage, 1)
    assert names(found) == ["claim", "claim-won", "answered", "saved"]


def test_a_refresh_goes_on_with_a_session() -> None:
    """Under a claim where the token may rotate; the lineage stays."""
    found = world(ROTATING, ISSUED, generation=4)
    obtain(found.session, ask())
    kept = found.kept()
    assert (kept.refresh_token, kept.generation, kept.lineage) == (Secret("R2"), 5, "l")
    assert (kept.claim, kept.sent) == (None, None)
    assert found.noted == [("l", 4), ("l", 5)]
    assert found.values["r"][1] == 3  # the claim and the result


def test_a_reused_token_is_refreshed_without_a_write() -> None:
    """Its consumers need no right to write; what it brings is published where the profile says."""
    answer = reply(200, access_token="A2", expires_in=600)
    found = world(REUSED, answer, generation=4)
    found.is_denied = True
    token = obtain(found.session, ask())
    assert (token.value, token.generation) == ("A2", 5)
    assert found.noted == []
    assert names(found) == ["answered", "publish-failed"]
    found = world(REUSED, answer, generation=4)
    obtain(found.session, ask())
    assert found.values["a"][0]["access_token"] == "A2"
    assert found.kept().generation == 4


@pytest.mark.parametrize(("skew_s", "told"), [(5.0, []), (-5.0, []), (5.4, [5]), (-6.0, [-6])])
def test_an_issuer_s_clock_that_is_off_is_reported(skew_s: float, told: list[int]) -> None:
    """By more than 5 s, once the result is saved."""
    found = world(ROTATING, replace(ISSUED, skew_s=skew_s), generation=4)
    obtain(found.session, ask())
    skews = [facts["issuer_is_ahead_s"] for event, facts in found.events if event == "clock-skew"]
    assert skews == told
    if told:
        assert names(found)[-2:] == ["clock-skew", "saved"]


# Certainly not sent.


def test_what_was_not_sent_is_tried_five_times() -> None:
    """With pauses that double; the claim is given back, and the attempt with it."""
    found = world(SIGN_IN, *[AWAY] * 5)
    failure(found, IssuerUnreachableError)
    assert len(found.sent) == 5
    assert found.pauses[-4:] == [0.25, 0.5, 1.0, 2.0]
    assert (found.kept().claim, found.kept().attempts) == (None, {})
    assert names(found).count("exchange-failed") == 5


def test_what_was_not_sent_is_tried_within_the_ask_s_time() -> None:
    """A pause that ends after it is not begun."""
    found = world(ROTATING, *[AWAY] * 5, generation=4)
    with pytest.raises(IssuerUnreachableError):
        obtain(found.session, Ask(deadline=BOOT + 0.74))
    assert found.pauses == [0.25]
    found = world(ROTATING, *[AWAY] * 5, generation=4)
    with pytest.raises(IssuerUnreachableError):
        obtain(found.session, Ask(deadline=BOOT + 0.76))
    assert found.pauses == [0.25, 0.5]


def test_what_will_not_be_better_in_a_moment_is_not_tried_again() -> None:
    """A certificate that doesn't fit, for one."""
    found = world(ROTATING, IssuerError("no"), generation=4)
    failure(found, IssuerError)
    assert (len(found.sent), found.pauses) == (1, [])
    assert (found.kept().claim, found.kept().sent) == (None, None)


def test_after_a_try_that_was_not_sent_the_token_is_sent() -> None:
    """Under the very claim."""
    found = world(ROTATING, AWAY, ISSUED, generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert names(found).count("claim-won") == 1


# The issuer is busy.


def test_a_busy_issuer_is_asked_again_after_its_pause() -> None:
    """As long as who asks has the time."""
    found = world(ROTATING, IssuerBusyError("busy", retry_after_s=7), ISSUED, generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert found.pauses == [7]


@pytest.mark.parametrize(
    ("asked_s", "until_s"), [(None, 60), (30, 30), (0, 1), (3_600, 3_600), (7_200, 3_600)]
)
@pytest.mark.parametrize("text", [ROTATING, SIGN_IN])
def test_a_busy_issuer_is_left_alone_by_the_fleet(
    text: str, asked_s: float | None, until_s: int
) -> None:
    """For as long as it asked, at most an hour; a minute where it doesn't say. Nothing was done, so
    the claim and what it counted are given back."""
    busy = IssuerBusyError("busy", retry_after_s=asked_s, hint="Wait.")
    found = world(text, *[busy] * 5, **({"generation": 4} if text == ROTATING else {}))
    error = failure(found, IssuerBusyError)
    kept = found.kept()
    assert kept.busy is not None
    assert kept.busy.until == int(NOW + found.slept_s + until_s)
    assert kept.busy.call == ("refresh" if text == ROTATING else "sign-in")
    assert (kept.claim, kept.attempts, kept.sent) == (None, {}, None)
    assert error.retry_after_s == (60 if asked_s is None else asked_s)
    assert error.message.startswith("p: busy; not asked again before 2026-07-14T1")
    assert error.hint == "Wait."
    sent = len(found.sent)
    failure(found, IssuerBusyError)
    assert len(found.sent) == sent


def test_where_no_claim_is_held_the_fleet_is_told_as_well() -> None:
    """Unless somebody holds one, or we may not write."""
    busy = IssuerBusyError("busy", retry_after_s=3_600)
    found = world(REUSED, busy, generation=4)
    failure(found, IssuerBusyError)
    assert found.kept().busy is not None
    assert found.kept().refresh_token == Secret("R1")
    denied = world(REUSED, busy, generation=4)
    denied.is_denied = True
    failure(denied, IssuerBusyError)
    assert denied.kept().busy is None


# The outcome is unknown.


def test_a_lost_sign_in_is_sent_once_more_and_stays_counted() -> None:
    """Each under a claim of its own; the last one lapses by itself."""
    found = world(SIGN_IN, LOST, LOST)
    assert failure(found, OutcomeUnknownError) is LOST
    assert len(found.sent) == 2
    (attempt,) = found.kept().attempts.values()
    assert attempt.count == 2
    assert found.kept().claim is not None
    assert names(found).count("claim-won") == 2


def test_a_lost_reused_token_is_sent_once_more() -> None:
    """It can't be lost by it."""
    found = world(REUSED, LOST, reply(200, access_token="A2", expires_in=600), generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert found.pauses == [0.25]


@pytest.mark.parametrize("text", [REUSED, SIGN_IN])
def test_what_is_lost_is_not_sent_again_where_no_time_is_left(text: str) -> None:
    """The next ask sends it."""
    found = world(text, LOST, ISSUED, **({"generation": 4} if text == REUSED else {}))
    with pytest.raises(OutcomeUnknownError):
        obtain(found.session, Ask(deadline=BOOT + 0.25, min_ttl_s=60))
    assert len(found.sent) == 1
    assert found.pauses == []


def test_a_lost_strict_token_is_not_sent_again_in_a_hurry() -> None:
    """Its record is looked at until the ask's deadline; claim and mark stay for the next holder."""
    found = world(ROTATING, LOST, generation=4)
    assert failure(found, OutcomeUnknownError) is LOST
    assert len(found.sent) == 1
    kept = found.kept()
    assert kept.claim is not None
    assert kept.claim.life_s == 64
    assert kept.sent is not None
    assert (kept.sent.generation, kept.refresh_token) == (4, Secret("R1"))
    assert found.pauses == [1.0] * 29  # until a second before the deadline


def test_what_another_wrote_meanwhile_is_adopted() -> None:
    """A newer generation than was there first."""

    class Helped(World):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.slept_s == 3.0:
                self.put(
                    generation=5,
                    refresh_token=Secret("R9"),
                    access_token=Secret("A9"),
                    access_token_expires_at=NOW + 600,
                    exchanged_at=NOW,
                )

    text = ROTATING + "share_access_token = true\n"
    found = Helped(text, answers=[LOST])
    found.put(access_token=None, access_token_expires_at=None)
    assert obtain(found.session, ask()).value == "A9"
    assert found.pauses == [1.0, 1.0, 1.0]


def test_a_shared_token_that_is_good_is_adopted_and_reported() -> None:
    """With its generation; nothing is sent."""
    found = World(SHARING, answers=[])
    found.put(generation=4, access_token_expires_at=NOW + 600)
    assert obtain(found.session, ask()).generation == 4
    assert (found.sent, found.noted) == ([], [("l", 4)])
    assert [facts for event, facts in found.events if event == "adopted"] == [
        {"profile": "p", "generation": 4}
    ]


def test_within_a_grace_the_token_is_sent_again_and_again() -> None:
    """After 1, 2, 4, 8 s ...; the vendor takes the old one as long as that."""
    found = world(GRACE, LOST, LOST, LOST, LOST, ISSUED, generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert found.pauses[:4] == [1, 2, 4, 8]
    assert len(found.sent) == 5


def test_after_the_grace_nobody_sends_it_in_a_hurry() -> None:
    """The grace counts from the first sending."""
    found = world(GRACE, *[LOST] * 9, generation=4)
    failure(found, OutcomeUnknownError)
    assert found.pauses[:5] == [1, 2, 4, 8, 16]
    assert len(found.sent) == 6


# An answer that can't be used.


def test_a_sign_in_without_a_token_is_a_refusal() -> None:
    """Where a token endpoint has answered: nobody tries again before its end, or others
    credentials."""
    found = world(SIGN_IN, reply(200, nothing=1))
    error = failure(found, CredentialsRefusedError)
    refused = found.kept().refused
    assert refused is not None
    assert (refused.error, refused.count, refused.credentials_version) == ("no_token", 1, "3")
    assert refused.until == error.until == NOW + found.slept_s + 300
    assert found.kept().claim is None
    failure(found, CredentialsRefusedError)
    assert len(found.sent) == 1


def test_a_refresh_without_a_token_is_no_refusal() -> None:
    """The session stays, and the claim is given back: an answer came."""
    found = world(ROTATING, reply(200, nothing=1), generation=4)
    failure(found, IssuerReplyError)
    kept = found.kept()
    assert (kept.refused, kept.claim, kept.sent) == (None, None, None)
    assert kept.refresh_token == Secret("R1")


def test_a_refresh_token_in_a_useless_answer_is_saved() -> None:
    """The old one is used up."""
    found = world(ROTATING, reply(200, refresh_token="R2"), generation=4)
    failure(found, IssuerReplyError)
    kept = found.kept()
    assert (kept.refresh_token, kept.generation, kept.claim) == (Secret("R2"), 5, None)
    assert "saved" in names(found)


@pytest.mark.parametrize(
    ("exchanged_at", "error", "is_doubted"),
    [(None, "invalid_request", True), (NOW - 9, "invalid_request", False), (None, "x", False)],
)
def test_a_seed_that_is_none_of_the_issuer_s_is_doubted(
    exchanged_at: int | None, error: str, is_doubted: bool
) -> None:
    """vault.ist calls it a wrong request; one that was exchanged before is no seed any more."""
    found = world(ROTATING, reply(400, error=error), generation=4, exchanged_at=exchanged_at)
    with pytest.raises(NightporterError) as caught:
        obtain(found.session, ask())
    assert ("no refresh token of this issuer: seed again" in str(caught.value)) is is_doubted
    if is_doubted:
        assert isinstance(caught.value, IssuerReplyError)
        assert caught.value.error == "invalid_request"
        assert caught.value.hint.startswith("Run `nightporter seed p`")
    assert found.kept().refresh_token == Secret("R1")


# A refusal.


def test_refusals_back_off_twice_as_long_each_time() -> None:
    """From 5 minutes on, at most 6 hours, by the credentials that were refused."""
    found = world(SIGN_IN)
    for count, back_off_s in enumerate((300, 600, 1_200, 2_400, 4_800, 9_600, 19_200, 21_600), 1):
        found.answers = [reply(401, error="invalid_grant")]
        error = failure(found, CredentialsRefusedError)
        assert error.until == int(NOW + found.slept_s + back_off_s)
        assert error.error == "invalid_grant"
        refused = found.kept().refused
        assert refused is not None
        assert (refused.count, refused.until) == (count, error.until)
        found.slept_s += back_off_s - 1
        failure(found, CredentialsRefusedError)  # remembered
        found.slept_s += 1
    found.values["c"] = ({"username": "svc", "password": "other"}, 4)
    found.answers = [ISSUED]
    again = Ask(deadline=BOOT + found.slept_s + 30, min_ttl_s=60)
    assert obtain(found.session, again).value == "A2"
    assert found.kept().refused is None


def test_a_refused_refresh_token_is_sent_twice_two_seconds_apart() -> None:
    """Under one claim; a newer one in the record would be tried instead."""
    rejected = reply(400, error="invalid_grant")
    found = world(ROTATING, rejected, ISSUED, generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert found.pauses == [2]
    assert names(found).count("claim-won") == 1
    assert [facts["error"] for event, facts in found.events if event == "refresh-rejected"] == [
        "invalid_grant"
    ]


def test_where_a_sign_in_needs_nobody_a_refused_token_is_not_sent_twice() -> None:
    """The credentials begin another session."""
    found = world(SIGN_IN, reply(400, error="invalid_grant"), ISSUED, generation=4)
    assert obtain(found.session, ask()).value == "A2"
    assert 2 not in found.pauses
    assert (found.kept().generation, found.kept().refresh_token) == (5, Secret("R2"))


def test_who_used_it_before_is_somebody_else() -> None:
    """A token that came a second time, by the issuer's words, and that we never sent."""
    rejected = reply(400, error="invalid_grant", error_description="token was already used")
    found = world(ROTATING, rejected, rejected, generation=4)
    failure(found, SessionRejectedError)
    assert names(found).count("used-elsewhere") == 1
    kept = found.kept().rejected
    assert kept is not None
    assert kept.is_elsewhere
    ours = world(ROTATING, rejected, rejected, generation=4)
    lost = world(ROTATING, LOST, generation=4)
    failure(lost, OutcomeUnknownError)
    ours.put(access_token=None, access_token_expires_at=None, sent=lost.kept().sent, generation=4)
    failure(ours, SessionRejectedError)
    assert "used-elsewhere" not in names(ours)


# The save.


def test_a_save_is_tried_again_and_then_kept_on_the_disk() -> None:
    """While the claim lives; the next run puts it back."""
    found = world(ROTATING, ISSUED, generation=4)
    found.answers = [ISSUED]
    real = found.send

    def send(*arguments: Any, **more: Any) -> Any:
        found.write_errors = [StoreBusyError("busy")] * 200
        return real(*arguments, **more)

    found.send = send  # type: ignore[method-assign]
    error = failure(found, ResultPendingError)
    assert "busy" in error.message
    assert sum(found.pauses) < 64
    assert sum(found.pauses) > 55
    (pending,) = found.waiting
    assert pending.record["refresh_token"] == "R2"
    assert pending.is_sign_in is False
    claim = found.kept().claim
    assert claim is not None
    assert pending.nonce == claim.nonce


def test_a_result_that_is_too_large_is_saved_without_its_access_token() -> None:
    """The session goes on; the token is handed out."""
    found = world(ROTATING + "share_access_token = true\n", ISSUED, generation=4)
    real = found.send

    def send(*arguments: Any, **more: Any) -> Any:
        found.write_errors = [StoreValueError("too large")]
        return real(*arguments, **more)

    found.send = send  # type: ignore[method-assign]
    assert obtain(found.session, ask()).value == "A2"
    assert (found.kept().refresh_token, found.kept().access_token) == (Secret("R2"), None)


# Records that are not ours.


def test_a_record_of_somebody_else_s_gets_its_claim_back_and_nothing_more() -> None:
    """Every member stays as it was where nothing was sent; a sign-in that succeeds replaces it."""
    found = world(SIGN_IN, AWAY, AWAY, AWAY, AWAY, AWAY)
    members = {"schema": 1, "something": "else", "generation": 7}
    found.values["r"] = (dict(members), 1)
    failure(found, IssuerUnreachableError)
    assert found.values["r"][0] == {**members, "claim": None}
    assert [facts for event, facts in found.events if event == "foreign-record"]
    found.answers = [ISSUED]
    again = Ask(deadline=BOOT + found.slept_s + 30, min_ttl_s=60)
    assert obtain(found.session, again).value == "A2"
    assert found.kept().refresh_token == Secret("R2")
    assert found.kept().generation == 8


def test_a_reader_gets_what_is_published_and_sends_nothing() -> None:
    """Nor does it look at the session's record."""
    found = world(SHARING + 'role = "read-only"\n')
    found.session.publish(
        Token(
            Secret("P"),
            token_type="Bearer",
            expires_at_s=NOW + 600,
            obtained_at_s=float(NOW),
            generation=5,
        ),
        BOOT + 5,
    )
    found.events.clear()
    token = obtain(found.session, ask())
    assert (token.value, token.generation) == ("P", 5)
    assert found.sent == []
    assert [facts["path"] for event, facts in found.events if event == "read"] == ["a"]


# What is missing before anything is sent.


def test_credentials_without_what_a_request_needs_are_named() -> None:
    """By the path of their secret; nothing is sent, and the claim is given back."""
    found = world(SIGN_IN)
    found.values["c"] = ({"username": "svc"}, 3)
    error = failure(found, SecretNotFoundError)
    assert "'c'" in error.message
    assert "password" in error.message
    assert found.sent == []


def test_a_claim_that_can_not_be_written_sends_nothing() -> None:
    """And the missing permission is named."""
    found = world(ROTATING, generation=4)
    found.is_denied = True
    error = failure(found, StoreDeniedError)
    assert "the claim can't be written, so nothing was sent" in error.message
    assert error.right == "write"
    assert found.sent == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROTATING, "Run `nightporter seed p` with a fresh refresh token."),
        (SIGN_IN, "Run `nightporter login p`."),
        (
            SIGN_IN + 'role = "refresh-only"\n',
            'A machine with role "full" must sign in: run `nightporter rotate p` there.',
        ),
        (
            ROTATING + 'role = "refresh-only"\n',
            "Run `nightporter seed p` with a fresh refresh token.",
        ),
    ],
)
def test_how_a_session_is_begun(text: str, words: str) -> None:
    """By a person, a seed, or the machine that may sign in."""
    assert remedy(profile(text)) == words
