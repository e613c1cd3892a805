"""The vendors: a table of rows, and one small adapter for each way of deviating from RFC 6749.

An adapter turns a profile and credentials into requests, and answers into tokens. It is pure:
`http` sends.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from nightporter.core.expiry import rounded_up_to_midnight
from nightporter.core.model import (
    Credentials,
    Document,
    IssuedTokens,
    Profile,
    Secret,
    Vendor,
)
from nightporter.core.vendor_table import OAUTH_KEYS, SHARED_KEYS
from nightporter.issuers.dialect import Dialect, dialect_of, seconds

if TYPE_CHECKING:
    from nightporter.issuers.oauth import Call, Request, Response

_ENTRA = {
    "base_url": "https://login.microsoftonline.com",
    "token_endpoint": "{base_url}/{tenant}/oauth2/v2.0/token",
    "authorization_endpoint": "{base_url}/{tenant}/oauth2/v2.0/authorize",
    "device_authorization_endpoint": "{base_url}/{tenant}/oauth2/v2.0/devicecode",
    "authorization_parameters": {"response_mode": "query"},
    "token_endpoint_auth_method": "client_secret_post",
    "grants": ["authorization_code", "client_credentials", "device_code"],
    "rotation": "rotates",
}

_SEEDS = (
    Vendor(
        name="pitchpoint",
        title="Pitchpoint",
        module="nightporter.issuers.pitchpoint",
        document=Document(
            title="Pitchpoint developer guide, 'Obtaining An Access Token', 'Refresh Access Token'",
            section="Step 1: Authenticate and Receive Tokens; Step 3: Refresh your access token",
            date="2026-11-21",
        ),
        members={
            "base_url": "https://api.pointservices.com",
            "token_endpoint": "{base_url}",
            "grants": ["password"],
            "rotation": "reused",
            # "24 hours rounded up to midnight eastern time"
            "refresh_token_life": "24h",
            "refresh_token_midnight": "America/New_York",
            "access_token_life": "1h",
        },
        options=SHARED_KEYS,
        refresh_needs=frozenset(),
    ),
    Vendor(
        name="vault-ist",
        title="vault.ist",
        module="nightporter.issuers.vault_ist",
        document=Document(
            title="vault.ist, 'Refreshing Access Tokens'",
            section="Token Refresh Using Refresh Token Grant Type; Error Responses",
            date="2026-11-21",
        ),
        members={
            "base_url": "https://api.vault.ist",
            "token_endpoint": "{base_url}",
            "grants": ["refresh_token"],
            "rotation": "may-rotate",
            "access_token_life": "24h",
            "dead_errors": ["UNAUTHORIZED"],
        },
        options=SHARED_KEYS | {"partner_id"},
        refresh_needs=frozenset({"partner_id"}),
    ),
    Vendor(
        name="perspio",
        title="Perspio",
        document=Document(
            title="Perspio, 'Refresh Access Token'",
            section="Refresh Access Token - Request, - Response",
            date="2026-11-21",
        ),
        members=_ENTRA,
        options=OAUTH_KEYS | {"tenant"},
        preset={"tenant": "7d548d61-6361-4a6e-85e6-509e2c05d05e"},
        call_scopes={
            "login": "api://perspiotalk/access_as_user offline_access",
            "refresh": "api://perspiotalk/all_readwrite offline_access",
            "client": "api://perspiotalk/.default",
        },
    ),
    Vendor(
        name="entra",
        title="Microsoft Entra",
        document=Document(
            title="Microsoft identity platform v2.0, 'OAuth 2.0 authorization code flow'",
            section="Request an access token; Refresh the access token",
            date="2026-11-21",
        ),
        members=_ENTRA,
        options=OAUTH_KEYS | {"tenant"},
        preset={"tenant": "common"},
    ),
    Vendor(
        name="oauth2",
        title="any other",
        document=Document(
            title="RFC 6749, with RFC 7009, RFC 7636, RFC 8414, RFC 8628",
            section="4, 5, 6",
            date="2026-11-21",
        ),
        members={
            "grants": [
                "password",
                "client_credentials",
                "refresh_token",
                "authorization_code",
                "device_code",
            ],
            "rotation": "may-rotate",
        },
        options=OAUTH_KEYS,
    ),
)

_BY_NAME = {vendor.name: vendor for vendor in _SEEDS}


class Vendors(Mapping[str, Vendor]):
    """The built-in rows. Those of `rows` are loaded when one that is not above is asked for, or all
    are listed: a cached answer never pays for them."""

    def __getitem__(self, name: str) -> Vendor:
        return _BY_NAME[name] if name in _BY_NAME else self._rows()[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*_BY_NAME, *self._rows()])

    def __len__(self) -> int:
        return len(_BY_NAME) + len(self._rows())

    @staticmethod
    def _rows() -> Mapping[str, Vendor]:
        from nightporter.issuers.rows import ROWS  # deferred, as said above

        return ROWS


VENDORS: Final[Mapping[str, Vendor]] = Vendors()


class Issuer(Protocol):
    """One vendor's wire format. The requests take a profile whose addresses are known
    (`with_discovery`)."""

    def discovery_request(self, profile: Profile) -> Request | None:
        """What to ask for the issuer's addresses; None where the profile or the vendor names
        them."""

    def with_discovery(self, profile: Profile, response: Response) -> Profile:
        """Raises: IssuerReplyError."""

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        """Raises: ValueError naming the member that the credentials lack."""

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        """Raises: ValueError naming the member that the client's secret lacks."""

    def parse(self, response: Response, call: Call) -> IssuedTokens:
        """Raises: as `oauth.parse_tokens`."""

    def refresh_expires_at(self, profile: Profile, issued_at: int) -> int | None:
        """When a refresh token issued at `issued_at` dies; None where the vendor states nothing."""

    def asked_scope(self, profile: Profile, call: Call) -> str | None:
        """The scopes that the session is to have with this call, as one text; None where the
        vendor's document names none."""

    def revocation_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request | None:
        """RFC 7009, where the issuer has an address for it."""


class Speaker:
    """Reads answers in the dialect of the vendor's row."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def parse(self, response: Response, call: Call) -> IssuedTokens:
        """Returns the tokens of an answer.

        Raises: as `oauth.parse_tokens`.
        """
        from nightporter.issuers.oauth import parse_tokens  # deferred: the table alone needs it not

        return parse_tokens(response, call, self._dialect)

    def refresh_expires_at(self, profile: Profile, issued_at: int) -> int | None:
        """Returns when a refresh token issued at `issued_at` (Unix seconds) dies, by the row."""
        life = profile.options.get("refresh_token_life")
        zone = profile.options.get("refresh_token_midnight")
        if life is None and zone is None:
            return None
        life_s = 0 if life is None else seconds(life)
        return rounded_up_to_midnight(issued_at, life_s, zone) if zone else issued_at + life_s


class FixedAddresses(Speaker):
    """For vendors whose addresses follow from `base_url`, and that revoke nothing."""

    def discovery_request(self, profile: Profile) -> Request | None:
        """None: the addresses are known."""
        return None

    def with_discovery(self, profile: Profile, response: Response) -> Profile:
        return profile

    def asked_scope(self, profile: Profile, call: Call) -> str | None:
        return None

    def revocation_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request | None:
        return None


DEFAULT_VENDOR = _SEEDS[0].name  # what `init` and `policy` take where none is named


def issuer_for(profile: Profile) -> Issuer:
    """The adapter of the profile's vendor."""
    module = importlib.import_module(profile.vendor.module)
    return cast(Issuer, module.Adapter(dialect_of(profile.options)))
