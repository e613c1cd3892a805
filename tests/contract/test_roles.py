"""Each role works with exactly the policy that `nightporter policy` prints, and with nothing
more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.support import Home, OpenBao
from lab.worlds.roles import PATHS, STORES, Place, on_aws, on_vault, policy, with_role
from lab.worlds.vendor import Vendor


@pytest.fixture(params=STORES)
def place(
    request: pytest.FixtureRequest, empty_home: Home, vendor: Vendor, openbao: OpenBao
) -> Iterator[Place]:
    if request.param == "vault":
        yield on_vault(empty_home, openbao, vendor.address)
        return
    with on_aws(empty_home, vendor.address) as found:
        yield found


# The matrix: what a new user of each role types, in this order, and how it ends.
COMMANDS = (
    ("config", "check"),
    ("setup", "git", "p", "--print"),
    ("status",),
    ("doctor",),
    ("token",),
    ("timeline",),
    ("rotate",),
    ("rotate", "--access"),
    ("token", "--force-refresh"),
    ("credentials", "set", "p"),
    ("credentials", "delete", "p", "--yes"),
    ("logout", "p"),
)
EXPECTED = {  # other than 0
    "full": {"credentials set": 5, "credentials delete": 5},
    "refresh-only": {"credentials set": 5, "credentials delete": 5, "rotate --access": 5},
    "read-only": {
        "credentials set": 5,
        "credentials delete": 5,
    },
}
MEMBERS = '{"username": "svc-acme", "password": "correct-horse"}'


@pytest.mark.parametrize("role", EXPECTED)
def test_a_new_user_starts_with_the_policy_of_the_role_alone(
    role: str, place: Place, vendor: Vendor, tmp_path: Path
) -> None:
    """`init` and each command after it, on a machine of its own: what the role is for works, and
    what it is not for names the policy that allows it."""
    assert place.run("rotate", "--access")[0] == 0
    variables = {**place.home.environment, **place.variables(place.grant(role))}
    machine = Home(tmp_path / "machine")
    machine.environment = {**variables, "HOME": str(machine.path)}
    done = machine.run(
        *("init", "p", "--issuer", "pitchpoint", "--base-url", vendor.address, *place.options),
        *("--role", role, "--set", f"publish_access_token={PATHS}/access"),
        *("--credentials", PATHS, "--host", "git.example.com"),
    )
    assert done.code == 0, done.err
    assert "it works" in done.err
    for words in COMMANDS:
        done = machine.run(*words, stdin=MEMBERS if words[:2] == ("credentials", "set") else None)
        said = done.out + done.err
        wanted = EXPECTED[role].get(" ".join(words[:2]), 0)
        assert done.code == wanted, (words, said)
        assert "defect" not in said
        if wanted == 5 and words[0] == "credentials":
            assert "nightporter policy p --role credentials" in said, (words, said)
        elif wanted == 5:
            assert '"error": "store-denied"' in said
        else:
            assert "permission" not in said.replace("with all permissions", ""), (words, said)


def test_who_writes_the_credentials_needs_their_policy_alone(
    place: Place, vendor: Vendor, tmp_path: Path
) -> None:
    """With what `policy --role credentials` prints: set and delete, and no token."""
    key = place.grant("credentials")
    before = place.home.environment
    place.home.environment = {**before, **place.variables(key)}
    done = place.home.run("credentials", "set", "pitchpoint", stdin=MEMBERS)
    assert done.code == 0, done.err
    assert place.home.run("token").code == 5
    done = place.home.run("credentials", "delete", "pitchpoint", "--yes")
    assert done.code == 0, done.err


def test_full(place: Place, vendor: Vendor) -> None:
    key = place.grant("full")
    for args in (
        ("token",),
        ("rotate", "--access"),
        ("rotate",),
        ("logout", "pitchpoint", "--everywhere"),
        ("token",),
    ):
        code, said = place.run(*args, key=key)
        assert code == 0, (args, said)
        assert "denied" not in said
        assert "is missing" not in said


def test_refresh_only_never_reads_the_password(place: Place, vendor: Vendor) -> None:
    key = place.grant("refresh-only")
    assert place.run("token", key=key)[0] == 5  # as full it would have to read the credentials
    assert place.run("rotate")[0] == 0
    with_role(place.home, "refresh-only")
    place.home.drop_cache()
    code, said = place.run("token", key=key)
    assert code == 0, said
    assert vendor.count("refresh") == 1
    place.run("logout", "pitchpoint", "--everywhere")
    code, said = place.run("token", key=key)
    assert code == 4
    assert "nightporter rotate pitchpoint" in said


def test_read_only_reads_one_secret(place: Place, vendor: Vendor) -> None:
    key = place.grant("read-only")
    assert place.run("rotate")[0] == 0
    with_role(place.home, "read-only")
    place.home.drop_cache()
    code, said = place.run("token", key=key)
    assert code == 0, said
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)


def test_a_refresh_only_of_a_reused_token_gets_no_right_to_write(place: Place) -> None:
    text = policy(place.home, "refresh-only")
    assert "update" not in text
    assert "Put" not in text
    assert "update" in policy(place.home, "full") + "" or "Put" in policy(place.home, "full")


def test_the_embedded_store_has_no_policy(home: Home) -> None:
    done = home.run("policy", "--role", "full")
    assert (done.code, done.out) == (2, "")
