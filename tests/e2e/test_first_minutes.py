"""`init`, `status`, `timeline`: what a new user meets, at a real terminal and without one."""

from __future__ import annotations

import json
import re

from conftest import Vendor
from support import Home
from terminal import Answers, at_terminal


def test_init_at_a_terminal_ends_with_a_token(empty_home: Home, vendor: Vendor) -> None:
    answers: Answers = [
        ("Who issues", "pitchpoint"),
        ("A name for", "mine"),
        ("Where is the secret", "local"),
        ("Path of the secret", "prod/mine"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("Hosts that", "git.example.com, *.example.org"),
        ("Which client", "none"),
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
        ("Who issues", "pitchpoint"),
        ("the issuer answers", None),
        ("A name for", "no good"),
        ("letters, digits", None),
        ("A name for", "mine"),
        ("Where is the secret", "vault"),
        ("Its address", "http://127.0.0.1:1"),
        ("How it lets you in", "token"),
        ("store-unreachable", None),
        ("Where is the secret", "local"),
        ("Path of the secret", "prod/../mine"),
        ("without empty", None),
        ("Path of the secret", "prod/mine"),
        ("Username", "svc-acme"),
        ("Password", "battery-staple"),
        ("Hosts that", "*.*.example.com"),
        ("what to do", None),
        ("Hosts that", "git.example.com"),
        ("credentials-refused", None),
        ("Write other credentials", "yes"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("it works", None),
        ("Which client", "git"),
        ("git: set up", None),
    ]
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address, "--timeout", "5"], answers)
    assert code == 0, said
    assert vendor.count("sign-in") == 2
    assert "git.example.com" in (empty_home.path / ".gitconfig").read_text()


def test_a_refused_password_is_not_tried_again_by_itself(empty_home: Home, vendor: Vendor) -> None:
    flags = ["--vendor", "pitchpoint", "--store", "local", "--credentials", "prod/x", "--base-url", vendor.address]
    answers: Answers = [
        ("Username", "svc-acme"),
        ("Password", "wrong"),
        ("Hosts", ""),
        ("Write other credentials", "no"),
    ]
    code, said = at_terminal(empty_home, ["init", "mine", *flags], answers)
    assert code == 3, said
    assert "not tried again before" in said
    assert vendor.count("sign-in") == 1


def test_init_with_a_refresh_token(empty_home: Home, vendor: Vendor) -> None:
    seeded = vendor.world.new_refresh_token()
    flags = ("--vendor", "vault-ist", "--store", "local", "--base-url", vendor.address, "--set", "partner_id=7")
    done = empty_home.run("init", *flags, stdin=seeded)
    assert done.code == 0, done.err
    assert "it works" in done.err
    assert "nightporter/vault-ist/refresh-token" in empty_home.config_file.read_text()


def test_init_without_a_person(empty_home: Home, vendor: Vendor) -> None:
    flags = ("--vendor", "pitchpoint", "--store", "local", "--credentials", "prod/x", "--base-url", vendor.address)
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    done = empty_home.run("init", *flags, "--host", "git.example.com", stdin=members)
    assert (done.code, done.out) == (0, ""), done.err
    assert empty_home.run("config", "check").code == 0
    again = empty_home.run("init", *flags, stdin=members)
    assert again.code == 2
    assert "not written over" in again.err


def test_init_says_precisely_what_is_wrong_and_leaves_nothing(empty_home: Home, vendor: Vendor) -> None:
    assert "--vendor is needed" in empty_home.run("init").err
    flags = ("--vendor", "pitchpoint", "--credentials", "x")
    empty_home.environment["VAULT_TOKEN"] = "x"
    away = empty_home.run("init", *flags, "--store", "vault", "--address", "http://127.0.0.1:1", "--timeout", "2")
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
    assert " 00:00 E" in begins  # earlier a sign-in would last no longer
    assert "midnight in New York" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert file.read_text().startswith("<svg")
    times = re.findall(r"<title>([^<]+)</title>", file.read_text())
    assert times == sorted(times)
