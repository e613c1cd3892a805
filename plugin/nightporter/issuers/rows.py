"""Rows of vendors that follow RFC 6749 but for their words and lives: data alone.

Each was taken from the page that `document` names, on its date (addresses that the page leaves out:
from public clients of that vendor), and holds what that page says; what it does not say is left
out, so that a session is treated with more care than may be needed. None of them has been seen at
work: its first user may find that the page was wrong, and can say so in `[vendors.NAME]` or in the
profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nightporter.core.model import Document, Vendor
from nightporter.core.vendor_table import OAUTH_KEYS

SEEN = "2026-11-26"
_LOGIN = ["authorization_code", "refresh_token"]
_ALL = ["authorization_code", "device_code", "client_credentials", "password", "refresh_token"]


def _row(name: str, title: str, page: str, section: str, **members: Any) -> Vendor:
    document = Document(title=page, section=section, date=SEEN)
    return Vendor(name=name, title=title, document=document, options=OAUTH_KEYS, members=members)


_ROWS = (
    _row(
        "salesforce",
        "Salesforce",
        "Salesforce Help, 'OAuth 2.0 Refresh Token Flow for Renewed Sessions'",
        "Request an Updated Access Token; Salesforce Grants a New Access Token",
        base_url="https://login.salesforce.com",
        token_endpoint="{base_url}/services/oauth2/token",
        authorization_endpoint="{base_url}/services/oauth2/authorize",
        revocation_endpoint="{base_url}/services/oauth2/revoke",
        grants=["authorization_code", "client_credentials", "refresh_token"],
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="may-rotate",  # a setting of the app; to send a rotated one ends the session
        extra_output=["instance_url"],
    ),
    _row(
        "github",
        "GitHub Apps",
        "GitHub Docs, 'Refreshing user access tokens'",
        "About user access tokens that expire; Refreshing a user access token with a refresh token",
        base_url="https://github.com",
        token_endpoint="{base_url}/login/oauth/access_token",
        authorization_endpoint="{base_url}/login/oauth/authorize",
        device_authorization_endpoint="{base_url}/login/device/code",
        grants=["authorization_code", "device_code", "refresh_token"],
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="rotates",
        access_token_life="8h",
        life_field="refresh_token_expires_in",
        dead_errors=["bad_refresh_token"],
        refused_errors=["incorrect_client_credentials"],
    ),
    _row(
        "gitlab",
        "GitLab",
        "GitLab Docs, 'OAuth 2.0 identity provider API'",
        "Authorization code with Proof Key for Code Exchange (PKCE)",
        base_url="https://gitlab.com",
        token_endpoint="{base_url}/oauth/token",
        authorization_endpoint="{base_url}/oauth/authorize",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_post",
        rotation="rotates",
        access_token_life="2h",
    ),
    _row(
        "slack",
        "Slack",
        "Slack Developer Docs, 'Using token rotation' and 'oauth.v2.access method'",
        "Exchange a refresh token; Arguments; Errors",
        base_url="https://slack.com",
        token_endpoint="{base_url}/api/oauth.v2.access",
        authorization_endpoint="{base_url}/oauth/v2/authorize",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_basic",
        scope_at_refresh=False,
        rotation="rotates",
        access_token_life="12h",
        dead_errors=["invalid_refresh_token"],
        busy_errors=["ratelimited"],
        refused_errors=["bad_client_secret", "invalid_client_id"],
        token_types=["bot", "user"],
    ),
    _row(
        "hubspot",
        "HubSpot",
        "HubSpot Developer Docs, 'OAuth tokens API' v1",
        "Refresh an access token",
        base_url="https://api.hubapi.com",
        token_endpoint="{base_url}/oauth/v1/token",
        authorization_endpoint="https://app.hubspot.com/oauth/authorize",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="may-rotate",
        access_token_life="30m",
        dead_errors=["BAD_REFRESH_TOKEN"],
    ),
    _row(
        "atlassian",
        "Atlassian",
        "Atlassian Developer, 'Implementing the Refresh Token Flow'",
        "Exchanging Refresh Tokens for Access Tokens and new Refresh Tokens",
        base_url="https://auth.atlassian.com",
        token_endpoint="{base_url}/oauth/token",
        authorization_endpoint="{base_url}/authorize",
        authorization_parameters={"audience": "api.atlassian.com", "prompt": "consent"},
        request_body="json",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="rotates",
        dead_errors=["unauthorized_client"],
    ),
    _row(
        "linear",
        "Linear",
        "Linear Developers, 'OAuth 2.0 authentication'",
        "Exchange code for an access token; Refresh an access token",
        base_url="https://api.linear.app",
        token_endpoint="{base_url}/oauth/token",
        authorization_endpoint="https://linear.app/oauth/authorize",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="rotates",
        access_token_life="24h",
    ),
    _row(
        "quickbooks",
        "QuickBooks",
        "Intuit Developer, 'Set up OAuth 2.0' and 'Authorization FAQ'",
        "Step 3; What are refresh token and access token durations?",
        base_url="https://oauth.platform.intuit.com",
        token_endpoint="{base_url}/oauth2/v1/tokens/bearer",
        authorization_endpoint="https://appcenter.intuit.com/connect/oauth2",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_basic",
        scope_at_refresh=False,
        rotation="may-rotate",  # the value changes now and then
        access_token_life="1h",
        life_field="x_refresh_token_expires_in",
    ),
    _row(
        "xero",
        "Xero",
        "Xero Developer, FAQ 'OAuth 2.0'",
        "What do I do if a token refresh fails? What is the expiration for a refresh token?",
        base_url="https://identity.xero.com",
        token_endpoint="{base_url}/connect/token",
        authorization_endpoint="https://login.xero.com/identity/connect/authorize",
        grants=_LOGIN,
        token_endpoint_auth_method="client_secret_basic",
        scope_at_refresh=False,
        rotation="rotates",
        grace="30m",
        idle_life="60d",
        access_token_life="30m",
    ),
    _row(
        "bitbucket",
        "Bitbucket",
        "Bitbucket Cloud, 'OAuth 2.0' and 'OAuth 2.0 and API authentication changes'",
        "Authorization Code Grant (4.1); Changes to refresh tokens grant flow",
        base_url="https://bitbucket.org",
        token_endpoint="{base_url}/site/oauth2/access_token",
        authorization_endpoint="{base_url}/site/oauth2/authorize",
        grants=["authorization_code", "client_credentials", "refresh_token"],
        token_endpoint_auth_method="client_secret_basic",
        scope_at_refresh=False,
        rotation="rotates",
        idle_life="90d",
        access_token_life="2h",
    ),
    _row(
        "google",
        "Google",
        "Google Identity, 'Using OAuth 2.0 for Web Server Applications'",
        "Set authorization parameters; Refreshing an access token (offline access)",
        base_url="https://oauth2.googleapis.com",
        token_endpoint="{base_url}/token",
        revocation_endpoint="{base_url}/revoke",
        device_authorization_endpoint="{base_url}/device/code",
        authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
        authorization_parameters={"access_type": "offline", "prompt": "consent"},
        grants=["authorization_code", "device_code", "refresh_token"],
        token_endpoint_auth_method="client_secret_post",
        scope_at_refresh=False,
        rotation="reused",
        idle_life="180d",  # "six months"
        access_token_life="1h",
        life_field="refresh_token_expires_in",
    ),
    _row(
        "keycloak",
        "Keycloak",
        "Keycloak, 'Server Administration Guide'",
        "Managing user sessions: session and token timeouts",
        token_endpoint="{base_url}/protocol/openid-connect/token",
        authorization_endpoint="{base_url}/protocol/openid-connect/auth",
        device_authorization_endpoint="{base_url}/protocol/openid-connect/auth/device",
        revocation_endpoint="{base_url}/protocol/openid-connect/revoke",
        grants=_ALL,
        rotation="may-rotate",  # "Revoke Refresh Token", a setting of the realm
        life_field="refresh_expires_in",  # 0 for an offline session
    ),
    _row(
        "okta",
        "Okta",
        "Okta Developer, 'Refresh access tokens'",
        "About refresh tokens; Refresh token reuse detection; Grace period for token rotation",
        token_endpoint="{base_url}/v1/token",
        authorization_endpoint="{base_url}/v1/authorize",
        device_authorization_endpoint="{base_url}/v1/device/authorize",
        revocation_endpoint="{base_url}/v1/revoke",
        grants=_ALL,
        rotation="may-rotate",
        access_token_life="1h",
    ),
    _row(
        "auth0",
        "Auth0",
        "Auth0 Docs, 'Configure Refresh Token Rotation'",
        "Configure in the Dashboard; rotation_type, leeway",
        token_endpoint="{base_url}/oauth/token",
        authorization_endpoint="{base_url}/authorize",
        device_authorization_endpoint="{base_url}/oauth/device/code",
        revocation_endpoint="{base_url}/oauth/revoke",
        grants=_ALL,
        token_endpoint_auth_method="client_secret_post",
        rotation="may-rotate",
        access_token_life="24h",
    ),
)

ROWS: Final[Mapping[str, Vendor]] = {row.name: row for row in _ROWS}
