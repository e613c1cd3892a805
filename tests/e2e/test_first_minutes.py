"""`init`, `status`, `timeline`: what a new user meets, at a real terminal and without one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from lab.patience import patience
from lab.support import BIN, Home
from lab.terminals.terminal import Answers, at_terminal
from lab.worlds.vendor import Vendor


def test_init_at_a_terminal_ends_with_a_token(empty_home: Home, vendor: Vendor) -> None:
    answers: Answers = [
        ("Token issuer", "pitchpoint"),
        ("Profile name", "mine"),
        ("Secret store", "local"),
        ("Hosts that", "git.example.com, *.example.org"),
        ("Path of the secret", "prod/mine"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("Client to set up", "none"),
    ]
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address], answers)
    assert code == 0, said
    assert "it works" in said
    assert "correct-horse" not in said
    assert "correct-horse" not in empty_home.config_file.read_text()
    assert empty_home.run("token", "mine").code == 0
    assert 'hosts = ["git.example.com", "*.example.org"]' in empty_home.config_file.read_text()
    assert "# No secret belongs" in empty_home.config_file.read_text()


def test_an_answer_that_does_not_work_is_asked_for_again(empty_home: Home, vendor: Vendor) -> None:
    empty_home.environment["VAULT_TOKEN"] = "x"
    answers: Answers = [
        ("Token issuer", "pitchpoint"),
        ("issuer reachable", None),
        ("Profile name", "no good"),
        ("letters, digits", None),
        ("Profile name", "mine"),
        ("Secret store", "vault"),
        ("Vault URL", "http://127.0.0.1:1"),
        ("Auth method", "token"),
        ("store-unreachable", None),
        ("Secret store", "local"),
        ("Hosts that", "*.*.example.com"),
        ("what to do", None),
        ("Hosts that", "git.example.com"),
        ("Path of the secret", "prod/../mine"),
        ("without empty", None),
        ("Path of the secret", "prod/mine"),
        ("Username", "svc-acme"),
        ("Password", "battery-staple"),
        ("refused the sign-in", None),
        ("Enter other credentials", "yes"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("it works", None),
        ("Client to set up", "git"),
        ("git: set up", None),
    ]
    code, said = at_terminal(
        empty_home, ["init", "--base-url", vendor.address, "--timeout", "5"], answers
    )
    assert code == 0, said
    assert vendor.count("sign-in") == 2
    assert "git.example.com" in (empty_home.path / ".gitconfig").read_text()


def test_a_refused_password_is_not_tried_again_by_itself(empty_home: Home, vendor: Vendor) -> None:
    flags = [
        "--vendor",
        "pitchpoint",
        "--store",
        "local",
        "--credentials",
        "prod/x",
        "--base-url",
        vendor.address,
    ]
    answers: Answers = [
        ("Hosts", ""),
        ("Username", "svc-acme"),
        ("Password", "wrong"),
        ("Enter other credentials", "no"),
    ]
    code, said = at_terminal(empty_home, ["init", "mine", *flags], answers)
    assert code == 3, said
    assert "not tried again before" in said
    assert vendor.count("sign-in") == 1


def test_init_with_a_refresh_token(empty_home: Home, vendor: Vendor) -> None:
    seeded = vendor.world.new_refresh_token()
    flags = (
        "--vendor",
        "vault-ist",
        "--store",
        "local",
        "--base-url",
        vendor.address,
        "--set",
        "partner_id=7",
    )
    done = empty_home.run("init", *flags, stdin=seeded)
    assert done.code == 0, done.err
    assert "it works" in done.err
    assert "nightporter/vault-ist/refresh-token" in empty_home.config_file.read_text()


def test_init_uses_the_session_that_another_machine_has_begun(
    empty_home: Home, vendor: Vendor
) -> None:
    flags = (
        "--vendor",
        "vault-ist",
        "--store",
        "local",
        "--base-url",
        vendor.address,
        "--set",
        "partner_id=7",
    )
    assert empty_home.run("init", *flags, stdin=vendor.world.new_refresh_token()).code == 0
    before = json.loads(next(empty_home.data.glob("*refresh-token.json")).read_text())
    empty_home.config_file.unlink()
    second = empty_home.run("init", *flags)
    assert second.code == 0, second.err
    assert "there is a session already" in second.err
    assert json.loads(next(empty_home.data.glob("*refresh-token.json")).read_text()) == before


@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
def test_init_waits_for_nobody_who_is_not_there(
    grant: str, empty_home: Home, vendor: Vendor
) -> None:
    members = json.dumps({"client_id": "demo-client", "client_secret": "demo-secret"})
    flags = (
        "--vendor",
        "perspio",
        "--store",
        "local",
        "--credentials",
        "c",
        "--base-url",
        vendor.address,
    )
    done = empty_home.run("init", *flags, "--set", f"grant={grant}", stdin=members)
    assert done.code == 4
    assert "nightporter login perspio" in done.err
    seeds = (
        "--vendor",
        "vault-ist",
        "--store",
        "local",
        "--base-url",
        vendor.address,
        "--set",
        "partner_id=7",
    )
    empty_home.config_file.unlink()
    done = empty_home.run("init", *seeds)
    assert done.code == 4
    assert "nightporter seed vault-ist" in done.err


def test_init_by_device_code_at_a_terminal(empty_home: Home, vendor: Vendor) -> None:
    answers: Answers = [
        ("Grant type", "device_code"),
        ("Tenant", ""),
        ("Hosts", ""),
        ("Client id", "demo-client"),
        ("Client secret", "demo-secret"),
        ("enter the code", None),
    ]
    flags = [
        "--vendor",
        "perspio",
        "--store",
        "local",
        "--credentials",
        "c",
        "--base-url",
        vendor.address,
    ]
    code, said = at_terminal(
        empty_home, ["--timeout", str(min(patience(5), 20)), "init", "p", *flags], answers
    )
    assert "demo-secret" not in said
    assert code == 4, said  # nobody approves it


@pytest.mark.parametrize(
    ("flags", "typed"),
    [
        (["--set", "min_ttl=abc"], [("Token issuer", "pitchpoint")] * 2),
        (
            ["--vendor", "pitchpoint", "--credentials", "arn:aws:x"],
            [("Profile name", ""), ("Secret store", "local"), ("Secret store", "local")],
        ),
        (
            ["--vendor", "pitchpoint", "--store", "local", "--auth", "method=token"],
            [("Profile name", "")],
        ),
    ],
)
def test_what_no_answer_can_mend_ends_the_conversation(
    flags: list[str], typed: Answers, empty_home: Home, vendor: Vendor
) -> None:
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address, *flags], typed)
    assert code == 2, said
    assert not empty_home.config_file.exists()


def test_an_issuer_that_is_away_is_said_and_may_be_passed_over(empty_home: Home) -> None:
    flags = [
        "--vendor",
        "pitchpoint",
        "--store",
        "local",
        "--base-url",
        "http://127.0.0.1:1",
        "--timeout",
        "3",
    ]
    code, said = at_terminal(empty_home, ["init", *flags], [("Continue anyway", "no")])
    assert code == 6, said
    unattended = empty_home.run(
        "init", *flags, "--credentials", "c", "--no-check", stdin='{"username": "a"}'
    )
    assert unattended.code == 0, unattended.err
    assert "issuer-unreachable" not in unattended.err


def test_a_client_that_can_not_be_set_up_is_known_before_anything_is_written(
    empty_home: Home, vendor: Vendor
) -> None:
    flags = (
        "--vendor",
        "pitchpoint",
        "--store",
        "local",
        "--credentials",
        "prod/x",
        "--base-url",
        vendor.address,
    )
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    done = empty_home.run("init", *flags, "--setup", "git", stdin=members)
    assert done.code == 7
    assert not empty_home.config_file.exists()


def test_init_with_closed_standard_input(empty_home: Home, vendor: Vendor) -> None:
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    flags = [
        "--vendor",
        "pitchpoint",
        "--store",
        "local",
        "--credentials",
        "p",
        "--base-url",
        vendor.address,
    ]
    assert empty_home.run("init", *flags, stdin=members).code == 0
    empty_home.config_file.unlink()
    command = shlex.join([str(BIN / "nightporter"), "init", *flags]) + " <&-"
    done = subprocess.run(
        ["sh", "-c", command], env=empty_home.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_credentials_set_asks_for_what_the_profile_needs(empty_home: Home, vendor: Vendor) -> None:
    profile = f'[profiles.p]\nbase_url = "{vendor.address}"\ncredentials = "c"\n'
    empty_home.configure(f'{profile}issuer = "vault-ist"\n')
    assert at_terminal(empty_home, ["credentials", "set"], [("Partner id", "42")])[0] == 0
    assert '"partner_id": "42"' in (empty_home.data / "c.json").read_text()
    empty_home.configure(f'{profile}issuer = "perspio"\nusername = "svc"\nclient = "s/client"\n')
    code, said = at_terminal(
        empty_home, ["credentials", "set"], [("Client id: ", "demo"), ("Client secret", "")]
    )
    assert code == 0, said
    assert '"client_id": "demo"' in (empty_home.data / "s%2Fclient.json").read_text()


def test_init_without_a_person(empty_home: Home, vendor: Vendor) -> None:
    flags = (
        "--vendor",
        "pitchpoint",
        "--store",
        "local",
        "--credentials",
        "prod/x",
        "--base-url",
        vendor.address,
    )
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    done = empty_home.run("init", *flags, "--host", "git.example.com", stdin=members)
    assert (done.code, done.out) == (0, ""), done.err
    assert empty_home.run("config", "check").code == 0
    again = empty_home.run("init", *flags, stdin=members)
    assert again.code == 2
    assert "not written over" in again.err


def test_init_says_precisely_what_is_wrong_and_leaves_nothing(
    empty_home: Home, vendor: Vendor
) -> None:
    assert "--issuer is needed" in empty_home.run("init").err
    flags = ("--vendor", "pitchpoint", "--credentials", "x")
    empty_home.environment["VAULT_TOKEN"] = "x"
    away = empty_home.run(
        "init", *flags, "--store", "vault", "--address", "http://127.0.0.1:1", "--timeout", "2"
    )
    assert away.code == 5
    assert "store-unreachable" in away.err
    assert not empty_home.config_file.exists()
    wrong = empty_home.run("init", *flags, "--store", "local", "--base-url", "ftp://x")
    assert wrong.code == 2
    assert not empty_home.config_file.exists()


def test_status_fits_80_columns_and_is_coloured_at_a_terminal_only(home: Home) -> None:
    home.run("token")
    plain = home.run("status").out
    assert "\x1b" not in plain
    assert "[############] in 59m" in plain
    assert all(len(line) <= 80 for line in plain.splitlines())
    code, said = at_terminal(home, ["status"], [])
    assert code == 0
    assert "\x1b[32m" in said
    home.environment["NO_COLOR"] = "1"
    assert "\x1b[3" not in at_terminal(home, ["status"], [])[1]


def test_timeline_as_text_and_picture(home: Home) -> None:
    home.run("token")
    file = home.path / "t.svg"
    out = home.run("timeline", "--svg", str(file)).out
    assert "  > " in out
    assert "the refresh token ends" in out
    lines = out.splitlines()
    (begins,) = [line for line in lines if "`rotate` signs in" in line]
    assert re.search(
        " 0[01]:00 E", begins
    )  # midnight, or an hour later where a day has 25: before, nothing is gained
    assert "midnight in New York" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert file.read_text().startswith("<svg")
    times = re.findall(r"<title>([^<]+)</title>", file.read_text())
    assert times == sorted(times)
