"""Leaves replies for the launcher: which files and variables an answer depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightporter.client.broker import Broker
from nightporter.client.identity import credential_files, secret_variables
from nightporter.core.model import Token
from nightporter.machine import reply_writer
from nightporter.machine.helper_failures import NAME as FAILURES
from nightporter.machine.places import cache_directories
from nightporter.machine.reply import Ask, Seen, knows, look
from nightporter.machine.reply_writer import Basis
from nightporter.stores import STORES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that went out. `text`: its bytes without the line's end; `floor_s`: seconds that
    the ask itself wanted the token to live, or None. `config_file`: the configuration that was
    read. `began`: Unix seconds before anything was read."""

    text: str
    token: Token
    floor_s: float | None = None
    config_file: str
    began: float


def keep_reply(reply: Reply, broker: Broker, ask: Ask) -> None:
    """Leaves a reply for the launcher, where it may answer the next ask of this kind.

    Not where a variable of the user's own naming holds a credential, where the store's identity
    depends on a variable that the launcher doesn't compare, where tokens are in no file, or where
    the file holds another token by now.
    """
    cache, description = broker.cache, STORES[broker.profile.store.type]
    token_file = cache.token_file()
    if token_file is None or secret_variables(broker.profile.store):
        return
    identity = description.identity_of(broker.profile.store.options)
    if not knows(identity, description.secret_variables):
        return
    own_seen, cached = look(token_file), cache.load()
    if own_seen is None or cached is None or cached.value != reply.token.value:
        return
    reply_writer.leave(reply.text, ask, _basis(reply, broker, ask, token_file, own_seen))


def _basis(reply: Reply, broker: Broker, ask: Ask, token_file: str, own_seen: Seen) -> Basis:
    directory = os.path.dirname(token_file)
    # A helper's success takes the note of its failure away, so a reply answers no ask after one.
    notes = [] if ask.given is None else [os.path.join(directory, FAILURES)]
    return Basis(
        directory=directory,
        watched=[*_files(reply, broker, ask.environment), *broker.cache.state_files(), *notes],
        absent=_places_before(directory, ask.environment),
        own=token_file,
        own_seen=own_seen,
        left_s=broker.warm_left_s(reply.token, reply.floor_s),
        by_token=bool(STORES[broker.profile.store.type].secret_variables),
        began=reply.began,
    )


def _files(reply: Reply, broker: Broker, environment: Mapping[str, str]) -> list[str]:
    config = reply.config_file
    files = [config, os.path.dirname(config), *credential_files(broker.profile.store, environment)]
    if "client_assertion_file" in broker.profile.options:
        files.append(str(broker.profile.options["client_assertion_file"]))
    return [os.path.expanduser(file) for file in files]


def _places_before(directory: str, environment: Mapping[str, str]) -> Sequence[str]:
    """Returns where tokens would be looked for before here, if such a place appeared."""
    places = cache_directories(environment)
    return places[: places.index(directory)] if directory in places else places
