"""Leaves replies for the launcher: which files and variables an answer depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from nightporter.client.broker import Broker
from nightporter.client.identity import credential_files, secret_variables
from nightporter.core.model import Token
from nightporter.core.values import dataclass
from nightporter.machine import reply_writer
from nightporter.machine.helper_failures import NAME as FAILURES
from nightporter.machine.places import cache_directories
from nightporter.machine.reply import SECRET_VARIABLES, Ask, Seen, can_name, knows, look
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

    Not where the store's identity depends on a variable that the launcher doesn't compare, where
    tokens are in no file, or where the file holds another token by now.
    """
    cache, description = broker.cache, STORES[broker.profile.store.type]
    token_file = cache.token_file()
    identity = description.identity_of(broker.profile.store.options)
    if token_file is None or not knows(identity) or not can_name(_secrets(broker)):
        return
    own_seen, cached = look(token_file), cache.load()
    if own_seen is None or cached is None or cached.value != reply.token.value:
        return
    reply_writer.leave(reply.text, ask, _basis(reply, broker, ask, token_file, own_seen))


def _basis(reply: Reply, broker: Broker, ask: Ask, token_file: str, own_seen: Seen) -> Basis:
    directory = os.path.dirname(token_file)
    # A helper's success takes the note of its failure away, so a reply answers no ask after one.
    notes = [os.path.join(directory, FAILURES)] if ask.arguments[0] == "credential" else []
    return Basis(
        directory=directory,
        watched=[*_files(reply, broker, ask.environment), *broker.cache.state_files(), *notes],
        absent=_places_before(directory, ask.environment),
        own=token_file,
        own_seen=own_seen,
        left_s=broker.warm_left_s(reply.token, reply.floor_s),
        secrets=[name for name in _secrets(broker) if _is_needed(name, ask)],
        began=reply.began,
    )


def _secrets(broker: Broker) -> list[str]:
    """Returns the variables that hold a credential of the store."""
    store = broker.profile.store
    return [*STORES[store.type].secret_variables, *secret_variables(store)]


def _is_needed(name: str, ask: Ask) -> bool:
    """Whether the ask itself doesn't say that the variable is absent."""
    return name in ask.environment or name not in SECRET_VARIABLES


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
