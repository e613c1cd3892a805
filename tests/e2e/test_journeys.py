"""From an empty HOME to the first credential: how many commands and how many questions it takes.

A number that grows is a change that every user pays for. `test_transcripts.py` counts what the
documents show, and `test_peers.py` other tools.
"""

from __future__ import annotations

import json
import secrets
import subprocess

import pytest

from lab.support import AWS_VARIABLES, BIN, Home, OpenBao
from lab.terminals.terminal import Answers, at_terminal
from lab.worlds.vendor import Vendor

MEMBERS = json.dumps({"username": "svc-acme", "password": "correct-horse"})


class Journey:
    """A user in a home, and what it costs: commands typed, questions answered."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.commands = 0
        self.questions = 0
        home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"

    def type(self, *words: str, answers: Answers = (), stdin: str | None = None) -> str:  # type: ignore[assignment]
        """One command; every answer is one question. Returns what it printed."""
        self.commands += 1
        if answers:
            code, said = at_terminal(self.home, list(words), list(answers))
            self.questions += sum(1 for _, typed in answers if typed is not None)
            assert code == 0, said
            return said
        done = self.home.run(*words, stdin=stdin)
        assert done.code == 0, done.err
        return done.out

    @property
    def cost(self) -> tuple[int, int]:
        return self.commands, self.questions


def test_a_laptop_by_questions(empty_home: Home, vendor: Vendor) -> None:
    """Enter alone answers four of the eight."""
    journey = Journey(empty_home)
    said = journey.type(
        "init",
        "--base-url",
        vendor.address,
        answers=[
            ("Token issuer", ""),
            ("Profile name", ""),
            ("Secret store", ""),
            ("Hosts that", "kube.example.com"),
            ("Path of the secret", ""),
            ("Username", "svc-acme"),
            ("Password", "correct-horse"),
            ("Client to set up", "kubectl"),
        ],
    )
    assert "it works" in said
    assert vendor.world.is_live(journey.type("token").strip())
    assert journey.cost == (2, 8)


def test_a_laptop_by_options(empty_home: Home, vendor: Vendor) -> None:
    """One command that ends with a token, and the one that prints it."""
    journey = Journey(empty_home)
    journey.type(
        *("init", "--issuer", "pitchpoint", "--base-url", vendor.address, "--store", "local"),
        *("--credentials", "prod/x", "--host", "kube.example.com", "--setup", "kubectl"),
        stdin=MEMBERS,
    )
    assert vendor.world.is_live(journey.type("token").strip())
    assert journey.cost == (2, 0)


def test_a_second_account(empty_home: Home, vendor: Vendor) -> None:
    journey = Journey(empty_home)
    empty_home.configure('[profiles.old]\nissuer = "pitchpoint"\ncredentials = "prod/old"\n')
    journey.type(
        *("init", "new", "--issuer", "pitchpoint", "--base-url", vendor.address),
        *("--store", "local", "--credentials", "prod/new"),
        stdin=MEMBERS,
    )
    assert vendor.world.is_live(journey.type("token", "new").strip())
    assert journey.cost == (2, 0)


@pytest.mark.parametrize("store", ["vault", "aws-secrets-manager"])
def test_the_next_machine_types_no_password(
    store: str, empty_home: Home, vendor: Vendor, request: pytest.FixtureRequest
) -> None:
    """The secret and the session are in the store already."""
    profile = ("--issuer", "pitchpoint", "--base-url", vendor.address, "--store", store)
    if store == "vault":
        openbao: OpenBao = request.getfixturevalue("openbao")
        place = ("--store-set", f"mount={openbao.mount()}")
        empty_home.environment |= {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    else:
        place = ("--endpoint-url", request.getfixturevalue("moto"))
        empty_home.environment |= AWS_VARIABLES
    flags = (*profile, *place, "--credentials", f"prod/{secrets.token_hex(4)}")
    Journey(empty_home).type("init", *flags, stdin=MEMBERS)
    empty_home.config_file.unlink()
    empty_home.drop_cache()
    journey = Journey(empty_home)
    journey.type("init", *flags)
    assert vendor.world.is_live(journey.type("token").strip())
    assert journey.cost == (2, 0)
    assert vendor.count("sign-in") == 1


def test_a_platform_team_with_vault(empty_home: Home, vendor: Vendor, openbao: OpenBao) -> None:
    """Policies without a configuration, a job and a reader, each with exactly its policy."""
    mount, path = openbao.mount(), "prod/pitchpoint"
    openbao.put(mount, path, json.loads(MEMBERS))
    journey = Journey(empty_home)
    empty_home.environment["VAULT_ADDR"] = openbao.address
    store = ("--store", "vault", "--store-set", f"mount={mount}", "--credentials", path)
    profile = (*store, "--set", f"publish_access_token={path}/access")
    for role in ("full", "read-only"):
        policy = journey.type("policy", "--role", role, *profile)
        empty_home.environment["VAULT_TOKEN"] = openbao.token_with(policy)
        empty_home.config_file.unlink(missing_ok=True)
        empty_home.drop_cache()
        journey.type(
            *("init", "pitchpoint", "--issuer", "pitchpoint", "--base-url", vendor.address),
            *(*profile, "--role", role),
        )
        if role == "full":
            journey.type("rotate", "--access")
    assert vendor.world.is_live(journey.type("token").strip())
    assert journey.cost == (6, 0)
    assert vendor.count("sign-in") == 1


# Remedies, each typed as it is printed, with the permissions of the person who reads it.


def remedy(said: str) -> str:
    """The command between backticks in the line that says what to do."""
    return said.split("what to do: ")[1].split("`")[1]


def typed(home: Home, command: str, stdin: str | None = None) -> None:
    done = subprocess.run(
        ["sh", "-c", command],
        env=home.environment,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=home.path,
    )
    assert done.returncode == 0, (command, done.stderr)


@pytest.fixture
def configured(empty_home: Home, vendor: Vendor) -> Home:
    empty_home.environment["PATH"] = f"{BIN}:{empty_home.environment['PATH']}"
    empty_home.configure(
        '[profiles.pitchpoint]\nissuer = "pitchpoint"\ncredentials = "prod/x"\n'
        f'base_url = "{vendor.address}"\n'
    )
    return empty_home


def test_an_absent_secret_is_written_by_what_the_error_says(configured: Home) -> None:
    failed = configured.run("token")
    assert failed.code == 4
    typed(configured, remedy(failed.err), stdin=MEMBERS)
    assert configured.run("token").code == 0


def test_a_refused_password_is_corrected_by_what_the_error_says(configured: Home) -> None:
    wrong = json.dumps({"username": "svc-acme", "password": "wrong"})
    assert configured.run("credentials", "set", stdin=wrong).code == 0
    failed = configured.run("token")
    assert failed.code == 3
    typed(configured, remedy(failed.err), stdin=MEMBERS)
    assert configured.run("token").code == 0


def test_a_grant_of_a_person_begins_by_what_the_error_says(
    configured: Home, vendor: Vendor
) -> None:
    configured.configure(
        '[profiles.ist]\nissuer = "vault-ist"\npartner_id = "7"\nrefresh_token = "r"\n'
        f'base_url = "{vendor.address}"\n'
    )
    failed = configured.run("token")
    assert failed.code == 4
    typed(configured, remedy(failed.err), stdin=vendor.world.new_refresh_token())
    assert configured.run("token").code == 0


def test_a_missing_permission_is_granted_by_what_the_error_says(
    configured: Home, vendor: Vendor, openbao: OpenBao
) -> None:
    """The reader may read too little; who grants it gets the policy from the command that is
    named."""
    mount = openbao.mount()
    openbao.put(mount, "prod/x", json.loads(MEMBERS))
    configured.configure(
        f'[stores.v]\ntype = "vault"\nmount = "{mount}"\n[profiles.pitchpoint]\n'
        f'issuer = "pitchpoint"\ncredentials = "prod/x"\nbase_url = "{vendor.address}"\n'
    )
    configured.environment["VAULT_ADDR"] = openbao.address
    configured.environment["VAULT_TOKEN"] = openbao.token_with('path "none" { capabilities = [] }')
    report = configured.run("doctor", "pitchpoint")
    assert report.code == 5
    command = next(
        line.split("`")[1] for line in report.out.splitlines() if "`nightporter policy" in line
    )
    done = subprocess.run(
        ["sh", "-c", command], env=configured.environment, capture_output=True, text=True
    )
    configured.environment["VAULT_TOKEN"] = openbao.token_with(done.stdout)
    assert configured.run("token").code == 0
    denied = configured.run("credentials", "set", stdin=MEMBERS)
    assert denied.code == 5  # no role may write the password
    assert "--role credentials" in denied.err
    writer = configured.run("policy", "pitchpoint", "--role", "credentials").out
    configured.environment["VAULT_TOKEN"] = openbao.token_with(writer)
    assert configured.run("credentials", "set", stdin=MEMBERS).code == 0
