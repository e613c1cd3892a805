"""The numbers of contract section 6, in seconds; they are written here and nowhere else."""

from __future__ import annotations

EXCHANGE_S = 10.0  # one exchange, connection and answer included
CLAIM_S = 15  # how long a claim lives
SEND_WHILE_LEFT_S = 11.0  # a holder sends only while its claim has more than this left
FAILURE_MEMORY_S = 5.0  # a failure is answered from memory for this long
STALE_FLOOR_S = 5  # a token with more than this left is served while issuer or store is away
EARLY_ATTEMPT_S = 2.0  # how long a command tries to renew ahead of time
EARLY_MEMORY_S = 60  # and how long it then leaves it
BACK_OFF_FIRST_S = 300  # after a refused sign-in, doubling
BACK_OFF_MAX_S = 6 * 3600
