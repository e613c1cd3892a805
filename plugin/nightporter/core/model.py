"""The nouns: frozen records that every other room passes around.

Nothing here reads a clock, a file or a network. Times are Unix seconds UTC, as whole numbers; text
forms of time live in `expiry`. Plaintext is wrapped in `Secret`, so that a record can be printed
without a thought.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard

from nightporter.core.expiry import parse_duration
from nightporter.core.values import dataclass, field

if TYPE_CHECKING:  # a cached answer needs none of it
    from nightporter.core.lineage import Link
    from nightporter.core.told import Claims, Told


class Secret:
    """Plaintext that does not print itself; `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Returns the plaintext: the only way out."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would leave the process in the clear")


class Token:
    """An access token as callers get it.

    `value` is the token itself, `token_type` the word of the Authorization header, `expires_at` an
    aware UTC datetime: the real expiry, with no margin taken off. `repr` and `str` hide the value.

    `expires_at_s`: the same in Unix seconds. `obtained_at_s`, `exchanged_at_s`: when it came here,
    and when the exchange on this machine began (0 where it was adopted), by this machine's clock.
    `ends_s`: its end on the clock that runs since this machine's boot, which no wall clock moves;
    None where that is not known (a cache file from before a reboot). `life_s`: how much was left of
    it when it came here. `output`: what else the vendor's reply has for a client (`instance_url`),
    by `extra_output` of its row.
    """

    __slots__ = (
        "_secret",
        "ends_s",
        "exchanged_at_s",
        "expires_at_s",
        "generation",
        "life_s",
        "obtained_at_s",
        "output",
        "token_type",
    )

    def __init__(
        self,
        secret: Secret,
        *,
        token_type: str,
        expires_at_s: int,
        obtained_at_s: float,
        exchanged_at_s: float = 0.0,
        generation: int = 0,
        ends_s: float | None = None,
        life_s: float | None = None,
        output: Mapping[str, str] | None = None,
    ) -> None:
        self._secret = secret
        self.token_type = token_type
        self.expires_at_s = expires_at_s
        self.obtained_at_s = obtained_at_s
        self.exchanged_at_s = exchanged_at_s
        self.generation = generation
        self.ends_s = ends_s
        self.life_s = expires_at_s - obtained_at_s if life_s is None else life_s
        self.output = output or {}

    @property
    def value(self) -> str:
        """The token in plain text."""
        return self._secret.reveal()

    @property
    def expires_at(self) -> datetime:
        """The real expiry."""
        return datetime.fromtimestamp(self.expires_at_s, UTC)

    def left_s(self, *, wall_s: float, boot_s: float) -> float:
        """Seconds that are left of it, given the wall clock and the clock since boot."""
        return self.expires_at_s - wall_s if self.ends_s is None else self.ends_s - boot_s

    def __repr__(self) -> str:
        return f"<Token {self.token_type} *** expires_at={self.expires_at.isoformat()}>"

    __str__ = __repr__


class Role(Enum):
    """What a profile may touch (contract, section 2)."""

    FULL = "full"
    REFRESH_ONLY = "refresh-only"
    READ_ONLY = "read-only"


class Rotation(Enum):
    """What a refresh does to the refresh token that was sent (RFC 6749 section 6, RFC 9700 section
    4.14.2)."""

    REUSED = "reused"
    MAY_ROTATE = "may-rotate"
    ROTATES = "rotates"


class Grant(Enum):
    """How an access token is first had (RFC 6749 section 1.3, RFC 8628)."""

    PASSWORD = "password"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # somebody brings one: `nightporter seed`
    AUTHORIZATION_CODE = "authorization_code"
    DEVICE_CODE = "device_code"

    @property
    def is_unattended(self) -> bool:
        """Whether a machine alone can sign in."""
        return self in (Grant.PASSWORD, Grant.CLIENT_CREDENTIALS)

    @property
    def needs_person(self) -> bool:
        """Whether a person approves it: `nightporter login`."""
        return self in (Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE)

    @property
    def is_seeded(self) -> bool:
        """Whether the first refresh token comes from outside."""
        return self is Grant.REFRESH_TOKEN

    @property
    def has_session(self) -> bool:
        """Whether there is a refresh token to keep."""
        return self is not Grant.CLIENT_CREDENTIALS

    @property
    def sends_password(self) -> bool:
        """Whether the sign-in sends a user's name and password."""
        return self is Grant.PASSWORD

    @property
    def needs_client_secret(self) -> bool:
        """Whether the client's own secret is all that there is."""
        return self is Grant.CLIENT_CREDENTIALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The page that a row was taken from, and when it was seen (a day, ISO 8601)."""

    title: str
    section: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A row of the table of vendors, built in or the user's own.

    `members`: what the vendor does, by the keys of `[vendors.NAME]` (`vendor_table.MEMBERS`); an
    address may hold {base_url} and other keys of the profile. `module` holds the adapter: RFC
    6749's, or one of its own where the vendor's requests deviate. `options`: the keys that its
    profiles take; of the same name as a member, they come before it. `preset`: defaults of those
    that are no members. `call_scopes`: the documented scopes by call, where a profile names none.
    `refresh_needs`: members of a secret that a refresh sends, where the profile's keys don't hold
    them. `written`: the table of the configuration, where it is the user's own row. `title`: the
    vendor's name for people.
    """

    name: str
    document: Document
    members: Mapping[str, Any]
    options: frozenset[str]
    module: str = "nightporter.issuers.oauth2"
    preset: Mapping[str, Any] = field(default_factory=dict)
    call_scopes: Mapping[str, str] = field(default_factory=dict)
    refresh_needs: frozenset[str] = frozenset({"client_id"})
    written: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def base_url(self) -> str | None:
        """The vendor's usual address; None where each customer has one."""
        return self.members.get("base_url")

    @property
    def rotation(self) -> Rotation:
        """What becomes of a refresh token, where the profile says nothing else."""
        return Rotation(self.members["rotation"])

    @property
    def grace_s(self) -> int:
        """For how many seconds a refresh token that has been replaced still works."""
        found = self.members.get("grace", 0)
        return parse_duration(found) if isinstance(found, str) else int(found)

    @property
    def is_any(self) -> bool:
        """Whether it is for every issuer that has no row: it knows no address at all."""
        return not self.members.keys() & {"base_url", "token_endpoint", "issuer_url"}

    @property
    def is_data(self) -> bool:
        """Whether nothing but its members tells it from RFC 6749."""
        return not (self.is_adapted or self.preset or self.is_any)

    @property
    def is_adapted(self) -> bool:
        """Whether its requests are not those of RFC 6749."""
        return not self.module.endswith(".oauth2")

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What the vendor takes; the first one is the default."""
        return tuple(map(Grant, self.members["grants"]))

    def needs_client(self, keys: Container[str]) -> bool:
        """Returns whether a refresh needs a secret, where the profile has these keys."""
        return any(member not in keys for member in self.refresh_needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """One `[stores.NAME]` table. `options` holds the keys of its type, already checked."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One `[profiles.NAME]` table with every default filled in.

    `token_endpoint` is what the session record calls by that name: for vendors with fixed paths
    their base address. `helper_options` holds what only some helper protocols know (git_quit, ...),
    `options` the vendor's row with the profile's own keys over it (tenant, partner_id, endpoints,
    ...).
    """

    name: str
    vendor: Vendor = field(repr=False)  # what holds of it is in the other members
    store: StoreConfig
    credentials: str | None
    client: str | None
    refresh_token: str
    publish_access_token: str | None
    base_url: str
    token_endpoint: str
    hosts: tuple[str, ...]
    helper_username: str
    min_ttl_s: int
    renew_when_left_s: int
    fields: Mapping[str, str]
    username: str | None
    role: Role
    rotation: Rotation
    grace_s: int
    share_access_token: bool
    grant: Grant
    ca_cert: str | None
    proxy: str | None
    helper_options: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """The vendor's name, as the session record has it."""
        return self.vendor.name

    @property
    def needs_client(self) -> bool:
        """Whether a refresh needs members of a secret (client_id, client_secret, partner_id)."""
        return self.vendor.needs_client(self.options) or "client_id" in self.options

    @property
    def idle_life_s(self) -> int | None:
        """After how many seconds without a refresh the session dies, as far as is known. A guess
        about the only copy: it makes a refresh due, and ends nothing."""
        found = self.options.get("idle_life")
        return parse_duration(found) if isinstance(found, str) else found

    def output_of(self, kept: Mapping[str, str]) -> dict[str, str]:
        """Returns what goes with a token: of what is kept, what the row names today."""
        names = self.options.get("extra_output", ())
        return {name: kept[name] for name in names if name in kept}

    @property
    def is_exclusive(self) -> bool:
        """Whether even a refresh needs a won claim (contract, section 6)."""
        return self.rotation is not Rotation.REUSED or self.share_access_token

    @property
    def may_rotate(self) -> bool:
        """Whether a refresh may end the refresh token that it sends."""
        return self.rotation is not Rotation.REUSED

    @property
    def is_strict(self) -> bool:
        """Whether a second send of a refresh token that may have rotated ends the session."""
        return self.may_rotate and self.grace_s == 0

    @property
    def signs_in_unattended(self) -> bool:
        """Whether a session can be begun without a person."""
        return self.role is Role.FULL and self.grant.is_unattended


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell what is wrong with a session: a command that gets it as JSON on standard input,
    an address that it is posted to, or both."""

    command: tuple[str, ...] = ()
    webhook: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole checked configuration, the name of where it came from, the user's own vendors, and
    which keys of each table were there."""

    source: str
    stores: Mapping[str, StoreConfig]
    profiles: Mapping[str, Profile]
    notify: Notify | None = None
    vendors: Mapping[str, Vendor] = field(default_factory=dict)
    written: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the credentials secret (and the client secret's own) hold, and which version of them
    that was.

    `private_key` and `certificate` are in PEM. `prove` makes the client's assertion for a request
    to the profile's issuer, where it has no secret to send (RFC 7523).
    """

    version: str
    username: str | None = None
    password: Secret | None = None
    useralias: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    private_key: Secret | None = None
    key_id: str | None = None
    certificate: str | None = None
    partner_id: str | None = None
    prove: Callable[[Profile], Secret] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose session it is. None means unknown or not applicable, and matches any."""

    issuer: str
    token_endpoint: str
    username: str | None = None
    useralias: str | None = None
    client_id: str | None = None

    def matches(self, other: Identity) -> bool:
        """Whether both can be the same session's; None is unknown, and fits any."""
        return (self.issuer, self.token_endpoint) == (other.issuer, other.token_endpoint) and all(
            mine is None or theirs is None or mine == theirs
            for mine, theirs in (
                (self.username, other.username),
                (self.useralias, other.useralias),
                (self.client_id, other.client_id),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to exchange (a lease), won by compare-and-set.

    `holder` is `host/pid/start`; `machine` names boot and pid namespace, or is None where
    look-alikes exist (Lambda); `nonce` tells two claims of one process apart and keeps two writers'
    bytes from being equal. `until` (Unix seconds) is for people and decides nothing: a claim ends
    `life_s` after the store wrote it, by the store's clock.
    """

    holder: str
    until: int
    nonce: str
    machine: str | None = None
    life_s: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused sign-in: not repeated until the credentials or the profile change or `until`
    (Unix seconds, the store's clock) has passed.

    `key` is that of `Attempt`; None in records that others wrote.
    """

    credentials_version: str
    until: int
    count: int
    error: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Sign-ins of one set of credentials whose outcome is not known, the last one claimed `at`
    (Unix seconds, the store's clock)."""

    count: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The refresh token of this generation is sent, or about to be, since `at` (Unix seconds, the
    store's clock)."""

    generation: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The issuer refused the refresh token with this digest, twice. Nobody sends it again.
    `is_elsewhere`: it said that the token was used before, and we had never sent it."""

    digest: str
    error: str
    at: int
    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The issuer asked not to be called again before `until` (Unix seconds, the store's clock).
    `call`: the value of the `Call` that it answered."""

    call: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """The session, as it is kept in the store (contract, section 3).

    Times are Unix seconds. `expires_at` is the end of the refresh token, not of the record.
    `lineage` names the session across its generations; `exchanged_at` is when its access token was
    asked for. `told` and `history` (of its refresh tokens) are for people alone. `output` goes
    with the access token. `unknown` keeps members of later versions.
    """

    identity: Identity
    refresh_token: Secret | None = None
    issued_at: int | None = None
    expires_at: int | None = None
    generation: int = 0
    access_token: Secret | None = None
    token_type: str = "Bearer"
    access_token_expires_at: int | None = None
    claim: Claim | None = None
    refused: Refusal | None = None
    by: str | None = None
    lineage: str | None = None
    exchanged_at: int | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    sent: Sent | None = None
    rejected: Rejected | None = None
    busy: Busy | None = None
    told: Told | None = None
    output: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Link, ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedTokens:
    """What an issuer's reply held. `refresh_token` None: the reply had none, so the old one stays
    in use. `refresh_life_s`: the seconds that the refresh token has left, where the reply states
    it. `output`: members for who asks for the token. `scopes`: what it says it granted; None where
    it says nothing. `claims`: of the id_token."""

    access_token: Secret
    token_type: str
    expires_in: int
    refresh_token: Secret | None
    scopes: tuple[str, ...] | None = None
    claims: Claims | None = None
    refresh_life_s: int | None = None
    output: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a caller needs.

    `deadline` is monotonic seconds. A token is good when more than `min_ttl_s` of it is left and it
    ends clearly later than `better_than_ends_s` (the clock since boot). `is_forced`: from an
    exchange of our own. `is_sign_in`: a fresh sign-in, though the session lives. `retry_refused`:
    a person wants what was refused to be tried once more.
    """

    deadline: float
    min_ttl_s: float = 0
    better_than_ends_s: float | None = None
    is_forced: bool = False
    is_sign_in: bool = False
    retry_refused: bool = False
    is_refused: Callable[[str], bool] = lambda _value: False


def is_token_text(value: object) -> TypeGuard[str]:
    """Whether a value can be an access token: visible ASCII, so that no output or header can be
    broken with it."""
    return isinstance(value, str) and bool(value) and all("!" <= char <= "~" for char in value)
