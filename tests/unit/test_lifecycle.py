"""The table: every situation has a row, every row has a situation, and the house rules hold over
all of them."""

from __future__ import annotations

import itertools

import pytest

from nightporter.session.lifecycle import (
    TABLE,
    Claimed,
    Holding,
    Refused,
    Situation,
    Step,
    back_off_s,
    early_renewal_s,
    next_row,
    next_step,
)

EVERY = [
    Situation(
        holding=holding,
        claimed=claimed,
        refused=refused,
        is_shared_fresh=shared,
        is_exclusive=exclusive,
        is_unattended=unattended,
    )
    for holding, claimed, refused, shared, exclusive, unattended in itertools.product(
        Holding, Claimed, Refused, (False, True), (False, True), (False, True)
    )
]


def situation(
    holding: Holding,
    claimed: Claimed = Claimed.FREE,
    refused: Refused = Refused.NOTHING,
    *,
    shared: bool = False,
    exclusive: bool = True,
    unattended: bool = True,
) -> Situation:
    return Situation(
        holding=holding,
        claimed=claimed,
        refused=refused,
        is_shared_fresh=shared,
        is_exclusive=exclusive,
        is_unattended=unattended,
    )


ONE_OF_EACH_ROW = [
    ("a shared token is good", situation(Holding.ALIVE, shared=True), Step.SERVE),
    ("the client is refused", situation(Holding.ALIVE, refused=Refused.CLIENT), Step.REFUSE),
    ("refresh freely", situation(Holding.ALIVE, Claimed.BUSY, exclusive=False), Step.REFRESH),
    ("refresh under our claim", situation(Holding.ALIVE, Claimed.OURS), Step.REFRESH),
    ("another is refreshing", situation(Holding.ALIVE, Claimed.BUSY), Step.WAIT),
    ("claim to refresh", situation(Holding.ALIVE, Claimed.OURS_SHORT), Step.CLAIM),
    ("its holder is gone", situation(Holding.ALIVE, Claimed.LAPSED), Step.TAKE_OVER),
    ("another is signing in", situation(Holding.ABSENT, Claimed.BUSY, unattended=False), Step.WAIT),
    (
        "only a person can",
        situation(Holding.REJECTED, Claimed.OURS, unattended=False),
        Step.ASK_PERSON,
    ),
    ("the sign-in is refused", situation(Holding.EMPTY, refused=Refused.SIGN_IN), Step.REFUSE),
    ("sign in under our claim", situation(Holding.FOREIGN, Claimed.OURS), Step.SIGN_IN),
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
    assert steps <= {Step.SERVE, Step.WAIT, Step.REFUSE}


def test_a_refused_sign_in_is_never_tried() -> None:
    refused = [seen for seen in EVERY if seen.refused is not Refused.NOTHING]
    assert Step.SIGN_IN not in {next_step(seen) for seen in refused}


def test_only_a_living_token_is_sent() -> None:
    assert {seen.holding for seen in EVERY if next_step(seen) is Step.REFRESH} == {Holding.ALIVE}


def test_a_role_that_cannot_sign_in_never_claims_for_it() -> None:
    attended = [
        seen for seen in EVERY if not seen.is_unattended and seen.holding is not Holding.ALIVE
    ]
    assert {next_step(seen) for seen in attended} <= {
        Step.SERVE,
        Step.WAIT,
        Step.ASK_PERSON,
        Step.REFUSE,
    }


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
