"""What the rest of nightporter must know of a store without loading it: one description each.

A description is beside its adapter and is cheap to import: it needs no library of the store's.
Configuration, identity of cached tokens, `init`, `doctor`, `policy` and the opening of stores
iterate over descriptions; nothing else names a store. A store of somebody else's comes in by the
entry point group `nightporter.stores` (plugin/docs/adding.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nightporter.core.checks import Check
from nightporter.core.values import dataclass, field

Options = Mapping[str, Any]  # the checked keys of a `[stores.NAME]` table
Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthMethod:
    """One way to log in to a store: the keys of its `auth` table.

    `needs`: keys that must be there; `needs_one_of`: of these at least one. `asked`: what `init`
    asks a person for. `variables`: keys whose value is the name of a variable that holds a secret.
    `files`: keys that name a credential file. `identity_variables`: what else in the environment
    picks who logs in.
    """

    keys: Mapping[str, Check] = field(default_factory=dict)
    needs: Sequence[str] = ()
    needs_one_of: Sequence[str] = ()
    asked: Sequence[str] = ()
    variables: Sequence[str] = ()
    files: Sequence[str] = ()
    identity_variables: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `init` asks for one key of the store; an empty answer leaves it to the environment.

    `is_needed`: without it the store can't be opened, so an empty answer needs a variable.
    """

    key: str
    text: str
    is_needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyNeeds:
    """What a policy must allow. `reads`: paths that are read only; `writes`: paths that are read
    and written by compare-and-set; `deletes`: paths that may be removed whole; `sweeps`: whether
    expired versions are removed too."""

    title: str
    options: Options
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    deletes: Sequence[str] = ()
    sweeps: bool = False


def _nothing(_options: Options, _environment: Environment) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDescription:
    """One type of store.

    `type`: the word of the configuration. `adapter`: the module whose `open_store(options,
    environment, notify, data_directory)` returns the store; it alone imports the store's library.
    `comment`: the line above the table that `init` writes.
    `keys`: keys of the table and their checks. `complete`: fills in what a checked table leaves
    out, so that equal meanings are equal tables.
    `auth_methods`: ways to log in; the first one is the default.
    `variables`: for a key the variables that stand in for it, in their order.

    What a token depends on (a token cached under one identity must never be served to another):
    `identity_variables` pick an identity and are no secrets; `secret_variables` hold one;
    `credential_files` are the files that it comes from. `address_variables` say which server and
    namespace are meant, with any identity. `place`: where the data are on this machine, for a store
    that has them here.

    `unread_variables`: what its own client reads and we don't; `doctor` says so where one is set.

    `ca_variables`: of which the first one that is set names a CA file, where no key does.

    `library`, `requirement`: the module that the adapter imports, and what pip installs for it.
    `render_policy`: the least that a role needs in the store's own policy language; None: it has
    none.
    """

    type: str
    adapter: str
    comment: str = ""
    keys: Mapping[str, Check] = field(default_factory=dict)
    complete: Callable[[Options], Options] = lambda options: options
    auth_methods: Mapping[str, AuthMethod] = field(default_factory=dict)
    variables: Mapping[str, Sequence[str]] = field(default_factory=dict)
    identity_variables: Sequence[str] = ()
    secret_variables: Sequence[str] = ()
    address_variables: Sequence[str] = ()
    unread_variables: Sequence[str] = ()
    ca_variables: Sequence[str] = ()
    credential_files: Callable[[Options, Environment], Sequence[str]] = _nothing
    place: Callable[[Options, str], str | None] = lambda _options, _data_directory: None
    library: str = ""
    requirement: str = ""
    render_policy: Callable[[PolicyNeeds], str] | None = None
    questions: Sequence[Question] = ()

    def named_variables(self, options: Options) -> list[str]:
        """Returns the variables of the user's own naming that hold a credential of the store."""
        auth = options.get("auth", {})
        method = self.auth_methods.get(auth.get("method", ""))
        return [auth[key] for key in (method.variables if method else ()) if key in auth]

    def named_files(self, options: Options) -> list[str]:
        """Returns the credential files that the `auth` table names."""
        auth = options.get("auth", {})
        method = self.auth_methods.get(auth.get("method", ""))
        return [auth[key] for key in (method.files if method else ()) if key in auth]

    def identity_of(self, options: Options) -> list[str]:
        """Returns the variables that pick an identity under these options; they hold no secret."""
        method = self.auth_methods.get(options.get("auth", {}).get("method", ""))
        return [*self.identity_variables, *(method.identity_variables if method else ())]
