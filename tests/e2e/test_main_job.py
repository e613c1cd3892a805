"""From a username and password to an ExecCredential, with the real command against the sandbox."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path

import pytest

from lab.patience import patience
from lab.support import Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import format_rfc3339, parse_rfc3339, pitchpoint_refresh_expiry


def credential(home: Home, **variables: str) -> dict[str, object]:
    done = home.run("exec-credential", "pitchpoint", **variables)
    assert done.code == 0, done.err
    assert done.err == ""
    document: dict[str, object] = json.loads(done.out)
    return document


def test_sign_in_then_cache_then_refresh(home: Home, vendor: Vendor) -> None:
    first = credential(home)
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)
    assert credential(home) == first
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)
    home.drop_cache()
    assert credential(home) != first
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 1)


def test_the_exec_credential(home: Home, vendor: Vendor) -> None:
    document = credential(home)
    assert document["apiVersion"] == "client.authentication.k8s.io/v1"
    assert document["kind"] == "ExecCredential"
    status = document["status"]
    assert isinstance(status, dict)
    assert vendor.world.is_live(status["token"])
    left = parse_rfc3339(status["expirationTimestamp"]) - time.time()
    assert 3600 - 60 - 30 < left <= 3600 - 60  # the real expiry less min_ttl


def test_the_api_version_is_the_one_that_is_asked_for(home: Home) -> None:
    for version in ("v1", "v1beta1"):
        info = json.dumps(
            {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential"}
        )
        assert (
            credential(home, KUBERNETES_EXEC_INFO=info)["apiVersion"]
            == f"client.authentication.k8s.io/{version}"
        )
    done = home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO='{"apiVersion": "x/v9"}')
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("server", "code"),
    [
        ("https://api.cluster.example:6443", 0),
        ("https://api.cluster.example", 7),
        ("https://evil.example:6443", 7),
        ("https://api.cluster.example.evil:6443", 7),
        ("http://api.cluster.example:6443", 7),
        ("nonsense\n", 7),
    ],
)
def test_a_cluster_that_is_told_must_be_in_hosts(
    home: Home, vendor: Vendor, server: str, code: int
) -> None:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["api.cluster.example:6443"]'))
    info = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "spec": {"cluster": {"server": server}},
    }
    done = home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=json.dumps(info))
    assert done.code == code, done.err
    assert bool(done.out) is (code == 0)
    assert "evil" not in done.err


def test_the_session_record(home: Home, vendor: Vendor) -> None:
    before = int(time.time())
    credential(home)
    record = home.record()
    issued_at = parse_rfc3339(record.pop("issued_at"))
    assert before <= issued_at <= time.time()
    assert record.pop("expires_at") == format_rfc3339(pitchpoint_refresh_expiry(issued_at))
    assert record.pop("refresh_token") in vendor.world.refresh_tokens
    assert record.pop("by")
    assert len(record.pop("lineage")) == 16
    (known,) = record.pop("history")
    assert (known["generation"], known["by"]) == (1, home.record()["by"])
    assert home.record()["refresh_token"] not in str(known)
    assert before <= parse_rfc3339(record.pop("exchanged_at")) <= time.time()
    assert record == {
        "schema": 1,
        "issuer": "pitchpoint",
        "token_endpoint": vendor.address,
        "username": "svc-acme",
        "useralias": None,
        "client_id": None,
        "generation": 1,
        "access_token": None,
        "token_type": "Bearer",
        "access_token_expires_at": None,
        "claim": None,
        "refused": None,
        "attempts": {},
        "sent": None,
        "rejected": None,
        "busy": None,
    }


def test_unknown_members_of_the_record_survive(home: Home, vendor: Vendor) -> None:
    credential(home)
    home.set_record(invented_later={"x": 1})
    vendor.world.revoke_all()
    home.drop_cache()
    credential(home)
    assert home.record()["invented_later"] == {"x": 1}


def test_useralias_is_sent_and_remembered(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(pitchpoint_config(vendor.address))
    empty_home.set_credentials(username="svc-acme", password="correct-horse", useralias="acme-east")
    credential(empty_home)
    assert empty_home.record()["useralias"] == "acme-east"
    assert vendor.world.aliases == ["acme-east"]


@pytest.mark.parametrize(
    ("output", "shape"),
    [
        ("token", "{}\n"),
        ("header", "Authorization: Bearer {}\n"),
        ("env", "NIGHTPORTER_TOKEN='{}'\n"),
        ("curl", 'header = "Authorization: Bearer {}"\n'),
    ],
)
def test_token_outputs(home: Home, output: str, shape: str) -> None:
    value = home.run("token").out.strip()
    assert home.run("token", "pitchpoint", "-o", output).out == shape.format(value)


def test_token_as_json_tells_the_real_expiry(home: Home) -> None:
    document = json.loads(home.run("token", "-o", "json").out)
    assert sorted(document) == ["access_token", "expires_at", "profile", "token_type"]
    assert 3560 < parse_rfc3339(document["expires_at"]) - time.time() <= 3600


def test_min_ttl_asks_for_a_longer_one(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    assert home.run("token", "--min-ttl", "3000").out == first
    vendor.world.expires_in = 7200
    (cached,) = home.cached()
    entry = json.loads(cached.read_text())
    entry["ends"] -= 2000  # 1600 s of 3600 are left
    cached.write_text(json.dumps(entry))
    assert home.run("token", "--min-ttl", "1500").out == first
    assert home.run("token", "--min-ttl", "1700").out != first
    assert vendor.count("refresh") == 1


def test_min_ttl_takes_no_more_than_half_of_a_token_s_life(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    assert home.run("token", "--min-ttl", "86400").out == first
    assert vendor.count("refresh") == 0


def test_force_refresh_exchanges(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    second = home.run("token", "--force-refresh").out
    assert first != second
    assert home.run("token").out == second
    assert vendor.count("sign-in") == 1


def test_a_fresh_token_is_handed_out_whatever_is_left_of_it(home: Home, vendor: Vendor) -> None:
    vendor.world.expires_in = 20
    document = credential(home)
    status = document["status"]
    assert isinstance(status, dict)
    assert parse_rfc3339(status["expirationTimestamp"]) > time.time()


def test_run_puts_the_token_into_the_environment_and_exits_as_the_command_does(
    home: Home, vendor: Vendor
) -> None:
    done = home.run(
        "run", "pitchpoint", "--", "sh", "-c", 'printf %s "$NIGHTPORTER_TOKEN"; exit 7', "-v"
    )
    assert done.code == 7
    assert vendor.world.is_live(done.out)
    assert home.run("run", "pitchpoint", "--", "no-such-command").code == 127


def test_global_options_stand_before_and_after_the_command(home: Home, tmp_path: Path) -> None:
    elsewhere = home.config_file.rename(tmp_path / "other.toml")
    assert home.run("token").code == 2
    assert home.run("--config", str(elsewhere), "token").code == 0
    assert home.run("token", "--config", str(elsewhere), "--timeout", "20", "-v").code == 0
    assert home.run("token", NIGHTPORTER_CONFIG=str(elsewhere)).code == 0
    assert (
        home.run("token", NIGHTPORTER_CONFIG="", NIGHTPORTER_CONFIG_TOML=elsewhere.read_text()).code
        == 0
    )


def test_the_working_directory_is_never_read(home: Home) -> None:
    """A cloned repository must not be able to redirect credentials."""
    for name in ("config.toml", "nightporter.toml", ".nightporter.toml"):
        (home.path / name).write_text(home.config_file.read_text())
    home.config_file.unlink()
    assert home.run("token").code == 2


def test_logout_drops_the_cache_and_everywhere_the_session(home: Home, vendor: Vendor) -> None:
    home.run("token")
    assert home.cached()
    assert home.run("logout", "pitchpoint").code == 0
    assert not home.cached()
    assert home.record()["refresh_token"]
    home.run("token")
    before = home.record()
    assert home.run("logout", "pitchpoint", "--everywhere").code == 0
    assert not home.cached()
    after = home.record()
    assert after["refresh_token"] is after["access_token"] is None
    assert after["lineage"] == before["lineage"]
    assert after["generation"] > before["generation"]
    assert home.run("token").code == 0
    assert vendor.count("sign-in") == 2


def test_logout_reaches_every_cache_place(home: Home, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    home.run("token", XDG_RUNTIME_DIR=str(runtime))
    home.run("token")
    named = tmp_path / "named"
    home.run("token", NIGHTPORTER_CACHE_DIR=str(named))
    found = [*runtime.glob("*/*.token"), *home.cached(), *named.glob("*.token")]
    assert len(found) == 3
    home.run("logout", "pitchpoint", XDG_RUNTIME_DIR=str(runtime), NIGHTPORTER_CACHE_DIR=str(named))
    assert not [file for file in found if file.exists()]


def test_status(home: Home, vendor: Vendor) -> None:
    assert "none yet" in home.run("status").out
    home.run("token")
    done = home.run("status")
    assert done.code == 0
    assert "svc-acme" in done.out
    assert "00:00 E" in done.out  # an Eastern midnight
    document = json.loads(home.run("status", "-o", "json").out)[0]
    assert document["session"]["generation"] == 1
    assert document["session"]["expires_at"] == home.record()["expires_at"]


def test_status_of_a_store_that_is_away_tells_what_is_cached(home: Home) -> None:
    home.run("token")
    home.record_file().unlink()
    home.record_file().mkdir()
    done = home.run("status")
    assert done.code == 5
    assert "access token" in done.out


def test_version_help_and_completion(empty_home: Home) -> None:
    assert empty_home.run("--version").out.startswith("nightporter, version ")
    assert "exec-credential" in empty_home.run("--help").out
    for shell in ("bash", "zsh", "fish"):
        assert "_NIGHTPORTER_COMPLETE" in empty_home.run("completion", shell).out


def test_usage_errors_exit_2(home: Home) -> None:
    for args in (
        ["nonsense"],
        ["token", "--nonsense"],
        ["token", "-o", "nonsense"],
        ["token", "a", "b"],
    ):
        assert home.run(*args).code == 2
    assert home.run("token", NIGHTPORTER_TIMEOUT="soon").code == 2
    assert home.run("token", NIGHTPORTER_TIMEOUT="").code == 0


def test_a_closed_standard_output_is_no_traceback(home: Home) -> None:
    process = home.start("token")
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=patience(30))
    assert "Traceback" not in err


def test_the_sandbox_command_prints_its_address(empty_home: Home) -> None:
    process = empty_home.start(
        "sandbox", "--username", "u", "--password", "p", "--expires-in", "120"
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        empty_home.configure(pitchpoint_config(address))
        empty_home.set_credentials(username="u", password="p")
        document = json.loads(empty_home.run("token", "-o", "json").out)
        assert parse_rfc3339(document["expires_at"]) - time.time() <= 120
    finally:
        process.terminate()
        process.communicate(timeout=patience(10))


def test_credentials_set_keeps_other_members_and_refuses_nonsense(home: Home) -> None:
    secret = home.data / "prod%2Fpitchpoint.json"
    home.set_credentials(useralias="east")
    assert json.loads(secret.read_text())["value"] == {
        "username": "svc-acme",
        "password": "correct-horse",
        "useralias": "east",
    }
    for text in ("", "[]", "{}", '{"username": 7}', '{"pasword": "x"}', "not json"):
        done = home.run("credentials", "set", "pitchpoint", stdin=text)
        assert done.code == 2
    assert os.stat(secret).st_mode & 0o777 == 0o600


def test_credentials_set_prompts_at_a_terminal(home: Home) -> None:
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        from lab.support import BIN

        os.execve(
            str(BIN / "nightporter"),
            ["nightporter", "credentials", "set", "pitchpoint"],
            home.environment,
        )
    seen = b""
    for answer in (b"typed-user\n", b"typed-secret\n"):
        while b": " not in seen:
            assert select.select([terminal], [], [], patience(30))[0]
            seen += os.read(terminal, 1000)
        os.write(terminal, answer)
        seen = b""
    rest = b""
    try:
        while chunk := os.read(terminal, 1000):
            rest += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"typed-secret" not in rest
    assert (
        json.loads((home.data / "prod%2Fpitchpoint.json").read_text())["value"]["password"]
        == "typed-secret"
    )


def test_other_names_of_the_members(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(
        pitchpoint_config(vendor.address, more='fields = { username = "user", password = "pw" }')
    )
    empty_home.set_credentials(username="svc-acme", password="correct-horse")
    value = json.loads((empty_home.data / "prod%2Fpitchpoint.json").read_text())["value"]
    assert value == {"user": "svc-acme", "pw": "correct-horse"}
    assert empty_home.run("token").code == 0
