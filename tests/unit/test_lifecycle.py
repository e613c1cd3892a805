"""The table: every situation has a row, every row has a situation, and the house rules hold over
all of them."""

from __future__ import annotations

import itertools

import pytest

from nightporter.core.limits import early_renewal_s
from nightporter.session.lifecycle import (
    TABLE,
    Bar,
    Claimed,
    Holding,
    Situation,
    Step,
    back_off_s,
    next_row,
    next_step,
)

EVERY = [
    Situation(
        holding=holding,
        claimed=claimed,
        refresh_bar=refresh_bar,
        sign_in_bar=sign_in_bar,
        is_shared_fresh=shared,
        is_exclusive=exclusive,
        is_unattended=unattended,
        is_sure=sure,
    )
    for holding, claimed, refresh_bar, sign_in_bar, shared, exclusive, unattended, sure in (
        itertools.product(
            *(Holding, Claimed, Bar, Bar),
            *((False, True), (False, True), (False, True), (False, True)),
        )
    )
]


def situation(
    holding: Holding,
    claimed: Claimed = Claimed.FREE,
    *,
    refresh_bar: Bar = Bar.NOTHING,
    sign_in_bar: Bar = Bar.NOTHING,
    shared: bool = False,
    exclusive: bool = True,
    unattended: bool = True,
    sure: bool = True,
) -> Situation:
    return Situation(
        holding=holding,
        claimed=claimed,
        refresh_bar=refresh_bar,
        sign_in_bar=sign_in_bar,
        is_shared_fresh=shared,
        is_exclusive=exclusive,
        is_unattended=unattended,
        is_sure=sure,
    )


USABLE = {Holding.ALIVE, Holding.DOUBTED}
ONE_OF_EACH_ROW = [
    ("a shared token is good", situation(Holding.ALIVE, shared=True), Step.SERVE),
    ("a newer nightporter's record", situation(Holding.NEWER), Step.UPGRADE),
    ("the client is refused", situation(Holding.ALIVE, refresh_bar=Bar.REFUSED), Step.REFUSE),
    ("the issuer is busy", situation(Holding.ALIVE, refresh_bar=Bar.BUSY), Step.BACK_OFF),
    ("refresh freely", situation(Holding.ALIVE, Claimed.BUSY, exclusive=False), Step.REFRESH),
    ("refresh under our claim", situation(Holding.ALIVE, Claimed.OURS), Step.REFRESH),
    ("another is refreshing", situation(Holding.ALIVE, Claimed.BUSY), Step.WAIT),
    ("claim to refresh", situation(Holding.ALIVE, Claimed.OURS_SPENT), Step.CLAIM),
    ("its holder is gone", situation(Holding.ALIVE, Claimed.LAPSED), Step.TAKE_OVER),
    (
        "mark it under our claim",
        situation(Holding.CONDEMNED, Claimed.OURS_SPENT, unattended=False),
        Step.MARK,
    ),
    ("another is signing in", situation(Holding.ABSENT, Claimed.BUSY, unattended=False), Step.WAIT),
    ("look twice", situation(Holding.ABSENT, unattended=False, sure=False), Step.LOOK_AGAIN),
    (
        "only a person can",
        situation(Holding.REJECTED, Claimed.OURS, unattended=False),
        Step.ASK_PERSON,
    ),
    ("sign in under our claim", situation(Holding.FOREIGN, Claimed.OURS), Step.SIGN_IN),
    ("the sign-in is refused", situation(Holding.EMPTY, sign_in_bar=Bar.REFUSED), Step.REFUSE),
    (
        "sign-ins are left alone",
        situation(Holding.EMPTY, sign_in_bar=Bar.UNSETTLED),
        Step.BACK_OFF,
    ),
    ("claim to sign in", situation(Holding.REPLACING), Step.CLAIM),
    ("the signer is gone", situation(Holding.ABSENT, Claimed.LAPSED), Step.TAKE_OVER),
]


@pytest.mark.parametrize(
    ("name", "seen", "step"), ONE_OF_EACH_ROW, ids=[row[0] for row in ONE_OF_EACH_ROW]
)
def test_each_row(name: str, seen: Situation, step: Step) -> None:
    row = next_row(seen)
    assert (row.name, row.step) == (name, step)


def test_no_row_is_left_out_of_the_test_above() -> None:
    assert [row.name for row in TABLE] == [name for name, _, _ in ONE_OF_EACH_ROW]


def test_every_situation_has_a_step() -> None:
    assert {next_step(seen) for seen in EVERY} == set(Step)


def test_every_row_is_reached() -> None:
    assert {next_row(seen).name for seen in EVERY} == {row.name for row in TABLE}


def test_nobody_signs_in_without_a_claim() -> None:
    assert {seen.claimed for seen in EVERY if next_step(seen) is Step.SIGN_IN} == {Claimed.OURS}


def test_nobody_sends_a_token_that_may_rotate_without_a_claim() -> None:
    sending = [seen for seen in EVERY if next_step(seen) is Step.REFRESH and seen.is_exclusive]
    assert {seen.claimed for seen in sending} == {Claimed.OURS}


def test_nothing_is_sent_or_claimed_while_another_holds_the_claim() -> None:
    busy = [seen for seen in EVERY if seen.claimed is Claimed.BUSY]
    steps = {
        next_step(seen) for seen in busy if seen.is_exclusive or seen.holding is not Holding.ALIVE
    }
    assert steps <= {Step.SERVE, Step.WAIT, Step.REFUSE, Step.BACK_OFF, Step.UPGRADE}


def test_what_is_barred_is_never_begun() -> None:
    """Under one's own claim a sign-in goes on: its own count does not stop it."""
    barred = [
        seen
        for seen in EVERY
        if seen.sign_in_bar is not Bar.NOTHING
        and seen.claimed is not Claimed.OURS
        and seen.holding not in USABLE
    ]
    assert not {Step.SIGN_IN, Step.CLAIM, Step.TAKE_OVER} & {next_step(seen) for seen in barred}


def test_only_a_living_token_is_sent() -> None:
    """One that was refused once is sent once more, under a claim, where it is all there is."""
    sent = {seen.holding for seen in EVERY if next_step(seen) is Step.REFRESH}
    assert sent == USABLE
    doubted = [seen for seen in EVERY if seen.holding is Holding.DOUBTED]
    claims = {seen.claimed for seen in doubted if next_step(seen) is Step.REFRESH}
    assert claims == {Claimed.OURS}


def test_a_role_that_cannot_sign_in_never_claims_for_it() -> None:
    attended = [seen for seen in EVERY if not seen.is_unattended and seen.holding not in USABLE]
    assert {next_step(seen) for seen in attended} <= {
        Step.SERVE,
        Step.WAIT,
        Step.ASK_PERSON,
        Step.LOOK_AGAIN,
        Step.MARK,
        Step.UPGRADE,
    }


def test_no_session_is_believed_after_a_second_look_alone() -> None:
    asking = [seen for seen in EVERY if next_step(seen) is Step.ASK_PERSON]
    assert all(seen.is_sure for seen in asking)


def test_nobody_touches_a_newer_version_s_record() -> None:
    newer = [seen for seen in EVERY if seen.holding is Holding.NEWER and not seen.is_shared_fresh]
    assert {next_step(seen) for seen in newer} == {Step.UPGRADE}


def test_the_back_off_doubles_from_five_minutes_to_six_hours() -> None:
    assert [back_off_s(count) for count in (1, 2, 3, 7, 8, 1000)] == [
        300,
        600,
        1200,
        19_200,
        21_600,
        21_600,
    ]


def test_early_renewal_lies_in_the_last_fifth_and_differs_by_host() -> None:
    assert early_renewal_s(3600, 0.0) == 720
    assert early_renewal_s(3600, 1.0) == 360
