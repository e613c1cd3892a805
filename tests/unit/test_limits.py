"""The numbers of contract section 6 as literals: a constant that drifts fails here."""

from __future__ import annotations

import pytest

from nightporter.core import limits
from nightporter.session import lease
from nightporter.stores import aws, vault

CONTRACT = {
    "CLAIM_S": 16,
    "STRICT_CLAIM_S": 64,
    "SEND_WITHIN_S": 4,
    "LOCK_S": 16,
    "SECOND_LOOK_S": 1,
    "EXCHANGE_S": 10,
    "LISTEN_S": 60,
    "SECOND_SEND_S": 2,
    "RESEND_FIRST_S": 1,
    "LAMBDA_EXCHANGE_S": 12,
    "LAMBDA_STRICT_S": 20,
    "LAMBDA_END_S": 2,
    "BACK_OFF_FIRST_S": 5 * 60,
    "BACK_OFF_MAX_S": 6 * 3600,
    "MAX_UNSETTLED": 2,
    "UNSETTLED_BACK_OFF_S": 5 * 60,
    "KEPT_ATTEMPTS": 8,
    "RETRY_AFTER_S": 60,
    "RETRY_AFTER_MAX_S": 3600,
    "MAX_ACCESS_LIFE_S": 24 * 3600,
    "PUBLISH_AGAIN_S": 23 * 3600,
    "MAX_TEXT": 80,
    "SKEW_S": 5,
    "FAILURE_MEMORY_S": 5,
    "STALE_FLOOR_S": 5,
    "EARLY_ATTEMPT_S": 2,
    "EARLY_MEMORY_S": 60,
    "LAST_GENERATION": 2**53 - 3,
    "KEPT_LINKS": 8,
    "ENDING_ATTENDED_S": 25 * 3600,
    "ENDING_S": 6 * 3600,
    "LAPSE_MARGIN_S": 1,
}


@pytest.mark.parametrize(("name", "value"), CONTRACT.items())
def test_the_contract_s_number(name: str, value: int) -> None:
    """Each number is the contract's, whatever the code computes with it."""
    assert getattr(limits, name) == value


def test_no_number_is_left_out_of_the_table_above() -> None:
    assert {name for name in vars(limits) if name.isupper()} == set(CONTRACT)


def test_a_generation_of_2_to_the_53_less_2_is_not_gone_on_from() -> None:
    """The last generation that is gone on from leaves room for one more exact JSON number."""
    assert limits.LAST_GENERATION < 2**53 - 2


def test_how_long_a_store_is_waited_for() -> None:
    """One call of it, and one connection: a dead address is told before the call is over."""
    assert (lease.STORE_CALL_S, lease.LEAST_CALL_S) == (5.0, 0.5)
    assert (aws.CONNECT_S, aws.READ_S, vault.CONNECT_S) == (3, 5, 3.0)
    assert max(aws.CONNECT_S, vault.CONNECT_S) < lease.STORE_CALL_S
