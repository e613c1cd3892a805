"""The least that a role needs, in the store's own policy language.

`full` signs in, refreshes, claims, saves, publishes and sweeps. `refresh-only` does all but read
the credentials. `read-only` reads published access tokens and nothing else. What a vendor doesn't
need (claims, where a reused token is not shared) is not granted to `refresh-only`. `credentials` is
for the person or machine that writes the secret with the password, which none of the roles may.
"""

from __future__ import annotations

from enum import Enum

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile, Role, StoreConfig
from nightporter.core.store_description import PolicyNeeds
from nightporter.stores import STORES


class Audience(Enum):
    """Whose policy it is: one of the roles, or who writes the credentials secret."""

    FULL = "full"
    REFRESH_ONLY = "refresh-only"
    READ_ONLY = "read-only"
    CREDENTIALS = "credentials"


def render_policy(profile: Profile, audience: Audience) -> str:
    """Returns the policy of that role for the profile's store.

    Raises: ConfigError for a store without policies, for `read-only` without published tokens, and
    for `credentials` without a credentials secret.
    """
    if audience is Audience.CREDENTIALS:
        return _render(profile.store, _writer_needs(profile))
    role = Role(audience.value)
    if role is Role.READ_ONLY and profile.publish_access_token is None:
        raise ConfigError(
            f"profile {profile.name!r} publishes no access token, so there is nothing to read",
            hint=(
                'Name a path in the profile: publish_access_token = "PATH" (without a'
                " configuration: --set publish_access_token=PATH)."
            ),
        )
    needs = PolicyNeeds(
        title=f"{profile.name}, role {role.value}",
        options=profile.store.options,
        reads=_reads(profile, role),
        writes=_writes(profile, role),
        sweeps=role is Role.FULL,
    )
    return _render(profile.store, needs)


def _writer_needs(profile: Profile) -> PolicyNeeds:
    """`credentials set` and `credentials delete`: read and written, and deleted."""
    paths = [path for path in (profile.credentials, profile.client) if path]
    if not paths:
        raise ConfigError(
            f"profile {profile.name!r} has no credentials secret to write",
            hint="Nothing has to be granted: its sessions begin without a secret.",
        )
    return PolicyNeeds(
        title=f"{profile.name}, who writes the credentials",
        options=profile.store.options,
        writes=paths,
        deletes=paths,
    )


def _render(store: StoreConfig, needs: PolicyNeeds) -> str:
    render = STORES[store.type].render_policy
    if render is None:
        raise ConfigError(
            f"the store type {store.type!r} has no policies: the permissions of its directory are"
            " all",
            hint="Nothing has to be granted.",
        )
    return render(needs)


def needed_paths(profile: Profile) -> tuple[list[str], list[str]]:
    """Which paths the profile's own role reads only, and which it reads and writes."""
    return _reads(profile, profile.role), _writes(profile, profile.role)


def _reads(profile: Profile, role: Role) -> list[str]:
    """Paths that are only read."""
    if role is Role.READ_ONLY:
        return [str(profile.publish_access_token)]
    found = [profile.credentials] if role is Role.FULL else []
    found.append(profile.client)
    if role is Role.REFRESH_ONLY and not profile.is_exclusive:
        found.append(profile.refresh_token)
    return [path for path in found if path]


def _writes(profile: Profile, role: Role) -> list[str]:
    """Paths that are read and written by compare-and-set."""
    if role is Role.READ_ONLY or (role is Role.REFRESH_ONLY and not profile.is_exclusive):
        return []
    return [path for path in (profile.refresh_token, profile.publish_access_token) if path]
