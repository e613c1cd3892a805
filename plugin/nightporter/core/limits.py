"""The numbers of contract section 6, in seconds where no other unit is named; written here and
nowhere else."""

from __future__ import annotations

# Claims.
CLAIM_S = 16  # how long a claim lives
STRICT_CLAIM_S = 64  # ... for a refresh token that may rotate at a vendor without a grace period
SEND_WITHIN_S = 4.0  # a holder sends only while its claim is younger than this
LAPSE_MARGIN_S = 1  # servers tell whole seconds, so a claim counts as lapsed this much later
LOCK_S = 16.0  # nobody waits longer for the machine's lock: the claim protects, the lock saves work
SECOND_LOOK_S = 1.0  # "no session" is believed after a second look this much later

# Exchanges.
EXCHANGE_S = 10.0  # a sign-in, or the refresh of a token that is reused
LISTEN_S = 60.0  # the refresh of a token that may rotate, whatever the caller's time limit says
SECOND_SEND_S = 2.0  # a refused refresh token is sent once more after this, where it is all we have
RESEND_FIRST_S = 1.0  # within a vendor's grace period: after 1, 2, 4, 8 ... seconds
LAMBDA_EXCHANGE_S = 12.0  # what must be left of a Lambda invocation for an exchange
LAMBDA_STRICT_S = 20.0  # ... of a refresh token that may rotate without a grace period
LAMBDA_END_S = 2.0  # it is listened to until this much before the invocation's end

# Refusals.
BACK_OFF_FIRST_S = 300  # after a refused sign-in, doubling
BACK_OFF_MAX_S = 6 * 3600
MAX_UNSETTLED = 2  # sign-ins without a known outcome, before nobody tries for ...
UNSETTLED_BACK_OFF_S = 300
KEPT_ATTEMPTS = 8
RETRY_AFTER_S = 60  # where a vendor that is busy names no time
RETRY_AFTER_MAX_S = 3600

# What a record may say.
MAX_ACCESS_LIFE_S = 86_400  # no adopted access token ends later than this after its exchange
PUBLISH_AGAIN_S = 23 * 3600
LAST_GENERATION = 2**53 - 3  # JSON numbers are exact up to 2**53
MAX_TEXT = 80  # characters of `by`, of a claim's members and of error codes
ENDING_S = 6 * 3600  # a session with less left is told of (`[notify]`)
ENDING_ATTENDED_S = 25 * 3600  # ... where a person has to begin the next one
KEPT_LINKS = 8  # digests of past refresh tokens
SKEW_S = 5.0  # a clock that is off by more is not believed

# Serving.
FAILURE_MEMORY_S = 5.0  # a failure is answered from memory for this long
STALE_FLOOR_S = 5  # a token with more than this left is served while issuer or store is away
EARLY_ATTEMPT_S = 2.0  # how long a command tries to renew ahead of time
EARLY_MEMORY_S = 60  # and how long it then leaves it


def early_renewal_s(lifetime_s: float, host_fraction: float) -> float:
    """Returns how many seconds before its end a token is renewed ahead: from the last fifth of its
    life on, by host.

    `host_fraction` (0 to 1) spreads hosts over half of that fifth, so that a fleet does not renew
    as one.
    """
    return lifetime_s / 5 * (1 - host_fraction / 2)
