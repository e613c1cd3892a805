"""Leaves replies for the front door: which files and variables an answer depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from nightporter.client.broker import Broker
from nightporter.client.identity import credential_files, secret_variables
from nightporter.core.model import Token
from nightporter.machine import reply as reply_files
from nightporter.machine.helper_failures import NAME as FAILURES
from nightporter.machine.places import cache_directories
from nightporter.stores import STORES


def keep_reply(
    reply: str,
    token: Token,
    broker: Broker,
    *,
    floor_s: float | None,
    config_file: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    began: float,
    given: bytes | None = None,
) -> None:
    """Leaves a reply for the front door, where it may answer the next ask of this kind.

    Not where a variable of the user's own naming holds a credential or the store's identity depends
    on a variable that the door doesn't compare, not where tokens are in no
    file, and not where the file holds another token by now. `floor_s`: what the ask itself wants to
    be left.
    """
    cache, store = broker.cache, broker.profile.store
    token_file = cache.token_file()
    description = STORES[store.type]
    if token_file is None or secret_variables(store):
        return
    if not reply_files.knows(description.identity_variables, description.secret_variables):
        return
    own_seen = reply_files.look(token_file)
    cached = cache.load()
    if own_seen is None or cached is None or cached.value != token.value:
        return
    files = [config_file, os.path.dirname(config_file), *credential_files(store, environment)]
    candidates = cache_directories(environment)
    directory = os.path.dirname(token_file)
    # A helper's success takes the note of its failure away, so a reply answers no ask after one.
    notes = [] if given is None else [os.path.join(directory, FAILURES)]
    earlier = candidates[: candidates.index(directory)] if directory in candidates else candidates
    reply_files.leave(
        reply,
        arguments=arguments,
        environment=environment,
        directory=directory,
        watched=[*(os.path.expanduser(file) for file in files), *cache.state_files(), *notes],
        absent=earlier,  # where tokens would be looked for before here, if such a place appeared
        own=token_file,
        own_seen=own_seen,
        left_s=broker.warm_left_s(token, floor_s),
        by_token=bool(description.secret_variables),
        given=given,
        began=began,
    )
