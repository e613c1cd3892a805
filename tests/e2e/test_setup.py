"""`nightporter setup`: what it writes, that nothing is lost, that it can be repeated and taken
back."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

HOSTS = (
    '"git.example.com", "*.pages.example.com:8443", "reg.example.com:5000",'
    ' "git.example.com:444/team"'
)


@pytest.fixture
def ready(home: Home, vendor: Vendor) -> Home:
    home.configure(pitchpoint_config(vendor.address, more=f"hosts = [{HOSTS}]"))
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
    return home


def setup(home: Home, *words: str, code: int = 0) -> str:
    done = home.run("setup", *words)
    assert done.code == code, done.err
    return done.out + done.err


def asked(home: Home, *command: str) -> str:
    done = subprocess.run(
        command, env=home.environment, capture_output=True, text=True, cwd=home.path
    )
    return done.stdout


def stub(home: Home, name: str, script: str) -> Path:
    """A client that isn't needed for real here."""
    directory = home.path / "stubs"
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if str(directory) not in home.environment["PATH"]:
        home.environment["PATH"] = f"{directory}:{home.environment['PATH']}"
    return path


def test_git_is_set_up_once_and_taken_back_whole(ready: Home, vendor: Vendor) -> None:
    asked(
        ready,
        "git",
        "config",
        "--global",
        "credential.https://reg.example.com:5000.helper",
        "theirs",
    )
    asked(
        ready,
        "git",
        "config",
        "--global",
        "credential.https://git.example.com:444.useHttpPath",
        "false",
    )
    before = (ready.path / ".gitconfig").read_text()
    setup(ready, "git", "pitchpoint")
    after = (ready.path / ".gitconfig").read_text()
    key = "credential.https://git.example.com.helper"
    helper = f"!{BIN}/git-credential-nightporter"  # absolute: cron and desktops have another PATH
    assert asked(ready, "git", "config", "--global", "--get-all", key) == f"\n{helper}\n"
    switch = (
        "git",
        "config",
        "--get-urlmatch",
        "credential.usehttppath",
        "https://git.example.com:444/team/x",
    )
    assert asked(ready, *switch) == "true\n"
    assert "nothing to change" in setup(ready, "git", "pitchpoint")
    assert (ready.path / ".gitconfig").read_text() == after
    ask = "protocol=https\nhost=a.pages.example.com:8443\n\n"
    done = subprocess.run(
        ["git", "credential", "fill"],
        env=ready.environment,
        input=ask,
        capture_output=True,
        text=True,
    )
    token = dict(line.split("=", 1) for line in done.stdout.splitlines())["password"]
    assert vendor.world.is_live(token)
    setup(ready, "git", "pitchpoint", "--undo")
    assert (ready.path / ".gitconfig").read_text() == before


def test_git_stands_below_every_general_helper(ready: Home) -> None:
    """git reads in order: an entry that clears the list clears only what stands above it."""
    ready.configure(ready.config_file.read_text().replace(HOSTS, '"git.example.com"'))
    asked(
        ready, "git", "config", "--global", "credential.https://git.example.com.username", "oauth2"
    )
    setup(ready, "git", "pitchpoint")
    asked(ready, "git", "config", "--global", "credential.helper", "store")
    for _ in range(2):
        setup(ready, "git", "pitchpoint")
        filled = subprocess.run(
            ["git", "credential", "fill"],
            env=ready.environment,
            input="protocol=https\nhost=git.example.com\n\n",
            capture_output=True,
            text=True,
        ).stdout
        subprocess.run(
            ["git", "credential", "approve"], env=ready.environment, input=filled, text=True
        )
    assert "password=" in filled
    assert not (ready.path / ".git-credentials").exists()
    assert "nothing to change" in setup(ready, "git", "pitchpoint")
    setup(ready, "git", "pitchpoint", "--undo")
    assert "nightporter" not in (ready.path / ".gitconfig").read_text()
    assert "oauth2" in (ready.path / ".gitconfig").read_text()


def test_an_undo_reaches_hosts_that_were_taken_out_and_leaves_other_profiles_alone(
    ready: Home, vendor: Vendor
) -> None:
    setup(ready, "git", "pitchpoint")
    setup(ready, "docker", "pitchpoint")
    other = (
        '\n[profiles.o]\nissuer = "pitchpoint"\ncredentials = "o"\nhosts ='
        ' ["reg.example.com:5000"]\n'
    )
    ready.configure(pitchpoint_config(vendor.address) + other)
    setup(ready, "git", "pitchpoint", "--undo")
    setup(ready, "docker", "pitchpoint", "--undo")
    text = (ready.path / ".gitconfig").read_text()
    assert "git.example.com" not in text
    assert "reg.example.com:5000" in text
    document = json.loads((ready.path / ".docker/config.json").read_text())
    assert document == {"credHelpers": {"reg.example.com:5000": "nightporter"}}


def test_nothing_of_the_user_s_is_written_over(ready: Home) -> None:
    rc = ready.path / ".npmrc"
    rc.write_text("//git.example.com/:_authToken=THEIRS\n//git.example.com/:tokenHelper=/theirs\n")
    if shutil.which("npm", path=ready.environment["PATH"]):
        assert "THEIRS" not in setup(ready, "npm", "pitchpoint")
        setup(ready, "npm", "pitchpoint", "--undo")
    setup(ready, "pnpm", "pitchpoint", code=2)
    setup(ready, "pnpm", "pitchpoint", "--undo")
    assert rc.read_text().count("THEIRS") == 1
    uv = ready.path / ".config/uv/uv.toml"
    uv.parent.mkdir(parents=True)
    uv.write_text('keyring-provider = "disabled"\n')
    setup(ready, "uv", "pitchpoint", code=2)
    setup(ready, "uv", "pitchpoint", "--undo")
    assert "disabled" in uv.read_text()


def test_a_link_in_the_place_of_a_wrapper_is_replaced(ready: Home) -> None:
    helper = ready.path / ".terraform.d/plugins/terraform-credentials-nightporter"
    helper.parent.mkdir(parents=True)
    program = ready.path / "program"
    program.write_text("theirs")
    helper.symlink_to(program)
    setup(ready, "terraform", "pitchpoint")
    assert program.read_text() == "theirs"
    helper.chmod(0o644)
    setup(ready, "terraform", "pitchpoint")
    assert helper.stat().st_mode & 0o777 == 0o700
    helper.unlink()
    helper.mkdir()
    assert "can't be written" in setup(ready, "terraform", "pitchpoint", code=2)


def test_git_names_the_helpers_path_where_it_is_not_on_path(ready: Home) -> None:
    ready.environment["PATH"] = "/usr/bin:/bin"
    setup(ready, "git", "pitchpoint", "--config", str(ready.config_file))
    listed = asked(
        ready, "git", "config", "--global", "--get-all", "credential.https://git.example.com.helper"
    )
    assert listed == f"\n!{BIN}/git-credential-nightporter --config {ready.config_file}\n"
    filled = subprocess.run(
        ["git", "credential", "fill"],
        env=ready.environment,
        input="protocol=https\nhost=git.example.com\n\n",
        capture_output=True,
        text=True,
    )
    assert "password=" in filled.stdout, filled.stderr


def test_kubectl_gets_a_user(ready: Home) -> None:
    for _ in range(2):
        assert "set-context" in setup(ready, "kubectl", "pitchpoint")
    shown = json.loads(asked(ready, "kubectl", "config", "view", "-o", "json"))
    users = {item["name"]: item["user"]["exec"] for item in shown["users"]}
    user = users["nightporter-pitchpoint"]
    assert user["args"] == ["exec-credential", "pitchpoint"]
    assert (user["command"], user["provideClusterInfo"], user["interactiveMode"]) == (
        str(BIN / "nightporter"),
        True,
        "Never",
    )
    setup(ready, "kubectl", "pitchpoint", "--undo")
    assert not json.loads(asked(ready, "kubectl", "config", "view", "-o", "json"))["users"]
    setup(ready, "kubectl", "pitchpoint", "--undo")


def test_docker_merges_and_loses_nothing(ready: Home) -> None:
    file = ready.path / ".docker/config.json"
    file.parent.mkdir()
    before = (
        '{\n  "auths": {"x": {}},\n  "credHelpers": {"other.example": "gcr"},\n  "HttpHeaders":'
        ' {"A": "é"}\n}\n'
    )
    file.write_text(before)
    file.chmod(0o640)
    shown = setup(ready, "docker", "pitchpoint", "--print")
    assert "reg.example.com:5000" in shown
    assert "auths" not in shown
    assert file.read_text() == before
    assert "*.pages.example.com" in setup(ready, "docker", "pitchpoint")
    document = json.loads(file.read_text())
    assert document["credHelpers"] == {
        "other.example": "gcr",
        "git.example.com": "nightporter",
        "reg.example.com:5000": "nightporter",
    }
    assert list(document) == ["auths", "credHelpers", "HttpHeaders"]
    assert "é" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert "nothing to change" in setup(ready, "docker", "pitchpoint")
    setup(ready, "docker", "pitchpoint", "--undo")
    assert json.loads(file.read_text()) == json.loads(before)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"a": 1, "a": 2}', '{"credHelpers": {"git.example.com": "theirs"}}']
)
def test_docker_refuses_what_it_would_lose(ready: Home, text: str) -> None:
    file = ready.path / ".docker/config.json"
    file.parent.mkdir()
    file.write_text(text)
    assert "nothing was changed" in setup(ready, "docker", "pitchpoint", code=2)
    assert file.read_text() == text


def test_cve_2021_41092_no_helper_no_entry(ready: Home) -> None:
    """docker sent a typed password to Docker Hub where the configured helper could not be run."""
    file = ready.path / ".docker/config.json"
    stub(ready, "docker-credential-nightporter", "exit 126")
    assert "can't be run" in setup(ready, "docker", "pitchpoint", code=2)
    ready.environment["PATH"] = "/usr/bin:/bin"
    assert "not there" in setup(ready, "docker", "pitchpoint", code=2)
    assert not file.exists()


def test_no_hosts_no_set_up(home: Home, vendor: Vendor) -> None:
    home.configure(pitchpoint_config(vendor.address))
    for client in ("git", "docker", "cargo", "terraform", "bazel"):
        home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
        assert "hosts" in setup(home, client, "pitchpoint", code=7)


def test_cargo_keeps_comments_and_providers(ready: Home) -> None:
    file = ready.path / ".cargo/config.toml"
    file.parent.mkdir()
    ready.environment["CARGO_HOME"] = str(file.parent)
    before = (
        "# mine\n[build]\njobs = 2 # two\n\n[registry]\nglobal-credential-providers = [\n"
        '    "cargo:token", # first\n    "x",\n]\n'
    )
    file.write_text(before)
    setup(ready, "cargo", "pitchpoint")
    setup(ready, "cargo", "pitchpoint")
    text = file.read_text()
    assert "# mine" in text
    assert "# two" in text
    assert "# first" in text
    listed = tomllib.loads(text)["registry"]["global-credential-providers"]
    assert listed == ["cargo:token", "x", f"{BIN}/cargo-credential-nightporter"]
    setup(ready, "cargo", "pitchpoint", "--undo")
    assert tomllib.loads(file.read_text()) == tomllib.loads(before)
    file.unlink()
    setup(ready, "cargo", "pitchpoint")
    setup(ready, "cargo", "pitchpoint", "--undo")
    assert tomllib.loads(file.read_text())["registry"] == {
        "global-credential-providers": ["cargo:token"]
    }
    for text in ("registry = 1\n", '[registry]\nglobal-credential-providers = "cargo:token"\n'):
        file.write_text(text)
        assert "nothing was changed" in setup(ready, "cargo", "pitchpoint", code=2)
    file.with_name("config").write_text("[build]\n")
    assert "instead of config.toml" in setup(ready, "cargo", "pitchpoint", code=2)


def test_terraform_gets_a_program_and_a_block(ready: Home, vendor: Vendor) -> None:
    file = ready.path / ".terraformrc"
    file.write_text('plugin_cache_dir = "/x"')
    for _ in range(2):
        setup(ready, "terraform", "pitchpoint")
    assert file.read_text().count('credentials_helper "nightporter" {}') == 1
    helper = ready.path / ".terraform.d/plugins/terraform-credentials-nightporter"
    token = json.loads(asked(ready, str(helper), "get", "reg.example.com:5000"))["token"]
    assert vendor.world.is_live(token)
    setup(ready, "terraform", "pitchpoint", "--undo")
    assert file.read_text() == 'plugin_cache_dir = "/x"\n'
    assert not helper.exists()
    file.write_text('  credentials_helper "theirs" {}\n')
    assert "another credentials_helper" in setup(ready, "terraform", "pitchpoint", code=2)


def test_npm_and_pnpm(ready: Home, vendor: Vendor) -> None:
    file = ready.path / ".npmrc"
    file.write_text("registry=https://r.example/\n//r.example/:_authToken=abc")
    shown = setup(ready, "pnpm", "pitchpoint", "--print")
    assert "abc" not in shown
    for _ in range(2):
        setup(ready, "pnpm", "pitchpoint")
    wrapper = ready.data / "wrappers/pnpm-pitchpoint"
    lines = file.read_text().splitlines()
    assert lines[:2] == ["registry=https://r.example/", "//r.example/:_authToken=abc"]
    assert f"//git.example.com:444/team/:tokenHelper={wrapper}" in lines
    assert vendor.world.is_live(asked(ready, str(wrapper)).strip().removeprefix("Bearer "))
    setup(ready, "pnpm", "pitchpoint", "--undo")
    assert file.read_text().splitlines() == lines[:2]
    assert not wrapper.exists()
    if shutil.which("npm", path=ready.environment["PATH"]) is None:
        pytest.skip("npm is not on this machine")
    assert "nightporter run --npm pitchpoint" in setup(ready, "npm", "pitchpoint")
    assert file.read_text().splitlines() == lines[:2]
    setup(ready, "npm", "pitchpoint", "--undo")


def test_go_keeps_what_is_there(ready: Home) -> None:
    place = ready.path / "goauth"
    place.write_text("netrc\n")
    stub(
        ready,
        "go",
        f'case "$*" in "env GOAUTH") cat {place};; "env -w GOAUTH="*) echo "${{3#GOAUTH=}}" >'
        f' {place};; "env -u GOAUTH") echo netrc > {place};; esac',
    )
    setup(ready, "go", "pitchpoint")
    assert place.read_text() == f"netrc;{BIN}/nightporter credential go pitchpoint\n"
    assert "nothing to change" in setup(ready, "go", "pitchpoint")
    setup(ready, "go", "pitchpoint", "--undo")
    assert place.read_text() == "netrc\n"
    place.write_text("off\n")
    setup(ready, "go", "pitchpoint", code=2)


def test_uv_pip_and_twine_want_the_backend(ready: Home) -> None:
    file = ready.path / ".config/uv/uv.toml"
    setup(ready, "uv", "pitchpoint")
    assert tomllib.loads(file.read_text()) == {"keyring-provider": "subprocess"}
    setup(ready, "uv", "pitchpoint", "--undo")
    assert file.read_text() == ""
    setup(ready, "twine", "pitchpoint")
    setup(ready, "pip", "pitchpoint")
    assert "subprocess" in asked(ready, str(BIN / "pip"), "config", "--user", "list")
    setup(ready, "pip", "pitchpoint", "--undo")
    assert "subprocess" not in asked(ready, str(BIN / "pip"), "config", "--user", "list")
    stub(ready, "keyring", "echo keyring.backends.fail.Keyring")
    assert "doesn't know the nightporter backend" in setup(ready, "uv", "pitchpoint", code=2)


def test_google_bazel_and_kubelet_files(home: Home, ready: Home, vendor: Vendor) -> None:
    ready.configure(
        pitchpoint_config(vendor.address, more=f'hosts = [{HOSTS}]\ngoogle_audiences = ["//iam/x"]')
    )
    assert "GOOGLE_APPLICATION_CREDENTIALS" in setup(ready, "google", "pitchpoint")
    document = json.loads((ready.data / "google/pitchpoint.json").read_text())
    assert document["audience"] == "//iam/x"
    assert document["credential_source"]["executable"]["command"].endswith(
        "credential google pitchpoint"
    )
    for client, file in (
        ("bazel", ready.path / ".bazelrc"),
        ("kubelet", ready.data / "kubelet/config.yaml"),
    ):
        assert "not yet seen" in setup(ready, client, "pitchpoint")
        assert "*.pages.example.com" in file.read_text()
    bazel = subprocess.run(
        [ready.data / "wrappers/bazel", "get"],
        env=ready.environment,
        input='{"uri": "https://git.example.com/x"}',
        capture_output=True,
        text=True,
    )
    assert "Authorization" in bazel.stdout
    for client in ("google", "bazel", "kubelet"):
        setup(ready, client, "pitchpoint", "--undo")
    assert (ready.path / ".bazelrc").read_text() == ""
    assert not (ready.data / "kubelet/config.yaml").exists()


def test_curl_and_httpie_are_told_how(ready: Home) -> None:
    assert "curl -H @-" in setup(ready, "curl", "pitchpoint")
    assert "Authorization:@" in setup(ready, "httpie", "pitchpoint")


def test_print_needs_no_client_and_changes_nothing(ready: Home) -> None:
    (ready.path / ".npmrc").write_text("a=b\n")
    (ready.path / ".gitconfig").write_text(
        '[credential]\n\thelper = "!f() { echo password=HIDDEN; }; f"\n'
    )

    def state() -> dict[str, str]:
        return {str(path): path.read_text() for path in ready.path.rglob("*") if path.is_file()}

    before = state()
    assert "HIDDEN" not in setup(ready, "git", "pitchpoint", "--print")
    ready.environment["PATH"] = "/nowhere"
    for client in (
        "kubectl",
        "git",
        "docker",
        "cargo",
        "go",
        "npm",
        "pnpm",
        "keyring",
        "terraform",
        "bazel",
        "kubelet",
    ):
        setup(ready, client, "pitchpoint", "--print")
        setup(ready, client, "pitchpoint", "--print", "--undo")
    assert state() == before


def test_docker_gets_the_keys_that_it_looks_up(ready: Home, vendor: Vendor) -> None:
    """`reg.example.com:443/x` is looked up as `reg.example.com:443` (docker/cli#987)."""
    hosts = '"reg.example.com:443", "http://localhost:5000", "plain.example.com"'
    ready.configure(pitchpoint_config(vendor.address, more=f"hosts = [{hosts}]"))
    said = setup(ready, "docker", "pitchpoint")
    assert "http://localhost:5000" in said
    file = ready.path / ".docker/config.json"
    keys = list(json.loads(file.read_text())["credHelpers"])
    assert keys == ["reg.example.com:443", "plain.example.com"]
    listed = json.loads(ready.run("credential", "docker", "list", stdin="").out)
    assert list(listed) == keys
    for key in keys:
        assert ready.run("credential", "docker", "get", stdin=key).code == 0
    setup(ready, "docker", "pitchpoint", "--undo")
    assert json.loads(file.read_text()) == {}
    ready.configure(pitchpoint_config(vendor.address, more='hosts = ["http://localhost:5000"]'))
    assert "plain http" in setup(ready, "docker", "pitchpoint", code=7)
    assert "plain http" in setup(ready, "kubelet", "pitchpoint", code=7)


def test_the_kubelet_and_bazel_get_what_they_compare(ready: Home, vendor: Vendor) -> None:
    hosts = '"reg.example.com:443", "reg.example.com/team", "http://plain.example:81", "localhost"'
    ready.configure(pitchpoint_config(vendor.address, more=f"hosts = [{hosts}]"))
    said = setup(ready, "kubelet", "pitchpoint")
    assert "http://plain.example:81" in said
    images = (ready.data / "kubelet/config.yaml").read_text().partition("matchImages:\n")[2]
    assert [word for word in images.split() if word != "-"] == [
        '"reg.example.com:443"',
        '"reg.example.com/team"',
        '"localhost"',
    ]
    assert "localhost" in setup(ready, "bazel", "pitchpoint")
    rc = (ready.path / ".bazelrc").read_text()
    assert rc.count("reg.example.com=") == 1
    assert "plain.example=" in rc
    ask = {"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": "reg.example.com:443/x/y"}
    reply = ready.run("credential", "kubelet", stdin=json.dumps(ask))
    assert list(json.loads(reply.out)["auth"]) == ["reg.example.com:443"]


def test_another_user_name_is_told(ready: Home, vendor: Vendor) -> None:
    """In setup, in `status` and in doctor; never the name itself, which may be a token."""
    key = "credential.https://git.example.com.username"
    asked(ready, "git", "config", "--global", key, "s3cret-alice")
    said = setup(ready, "git", "pitchpoint")
    assert "another user" in said
    assert "s3cret" not in said
    ask = "protocol=https\nhost=git.example.com\nusername=s3cret-alice\n\n"
    done = ready.run("credential", "git", "get", stdin=ask)
    assert (done.code, done.out, done.err) == (0, "", "")
    shown = ready.run("status").out
    assert "other-user-name" in shown
    assert "s3cret" not in shown
    assert "other-user-name" in ready.run("doctor", "pitchpoint").out
    assert (
        "password="
        in ready.run("credential", "git", "get", stdin=ask.replace("s3cret-alice", "")).out
    )
    assert "other-user-name" not in ready.run("status").out


def test_another_user_name_in_an_index_address_is_told(ready: Home) -> None:
    file = ready.path / ".config/uv/uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text('index-url = "https://s3cret-alice@git.example.com/simple/"\n')
    said = setup(ready, "uv", "pitchpoint")
    assert "another user than 'oauth2' for git.example.com" in said
    assert "s3cret" not in said


def test_a_byte_order_mark_stays_and_costs_nothing(ready: Home) -> None:
    """Editors on Windows write one (moby/moby#44790)."""
    docker, rc = ready.path / ".docker/config.json", ready.path / ".npmrc"
    docker.parent.mkdir()
    docker.write_text('\ufeff{"auths": {}}', encoding="utf-8")
    rc.write_text("\ufeff//git.example.com/:tokenHelper=/theirs\n", encoding="utf-8")
    setup(ready, "docker", "pitchpoint")
    assert docker.read_text().startswith("\ufeff{")
    assert "git.example.com" in json.loads(docker.read_text(encoding="utf-8-sig"))["credHelpers"]
    assert "nothing was changed" in setup(ready, "pnpm", "pitchpoint", code=2)


def test_what_was_changed_is_told_file_by_file(ready: Home) -> None:
    said = setup(ready, "docker", "pitchpoint")
    assert f"wrote {ready.path}/.docker/config.json" in said
    assert "see it work with: docker pull git.example.com/IMAGE" in said
    said = setup(ready, "git", "pitchpoint")
    assert f"changed {ready.path}/.gitconfig" in said
    assert said.count(".gitconfig") == 1
    said = setup(ready, "terraform", "pitchpoint")
    assert f"wrote {ready.path}/.terraformrc" in said
    assert f"wrote {ready.path}/.terraform.d/plugins/terraform-credentials-nightporter" in said
    said = setup(ready, "terraform", "pitchpoint", "--undo")
    assert f"removed {ready.path}/.terraform.d/plugins/terraform-credentials-nightporter" in said


def test_what_is_set_up_in_a_terminal_works_under_cron(ready: Home, vendor: Vendor) -> None:
    """cron and a desktop's programs have /usr/bin:/bin alone (lensapp/lens#760)."""
    setup(ready, "git", "pitchpoint")
    ready.environment["PATH"] = "/usr/bin:/bin"
    filled = subprocess.run(
        ["git", "credential", "fill"],
        env=ready.environment,
        input="protocol=https\nhost=git.example.com\n\n",
        capture_output=True,
        text=True,
    )
    assert "password=" in filled.stdout, filled.stderr


def test_a_comma_in_a_path_arrives_whole_at_kubectl(ready: Home) -> None:
    """kubectl reads `--exec-arg` as a row of CSV."""
    place = ready.path / 'a,b "c"'
    place.mkdir()
    file = shutil.copy(ready.config_file, place / "c.toml")
    setup(ready, "kubectl", "pitchpoint", "--config", str(file))
    shown = json.loads(asked(ready, "kubectl", "config", "view", "-o", "json"))
    assert shown["users"][0]["user"]["exec"]["args"] == [
        "--config",
        str(file),
        "exec-credential",
        "pitchpoint",
    ]


def test_cargo_gets_an_alias_for_a_path_with_a_blank(ready: Home) -> None:
    """cargo splits an entry of its list at blanks."""
    place = ready.path / "my bin"
    place.mkdir()
    program = place / "cargo-credential-nightporter"
    program.write_text(f'#!/bin/sh\nexec {BIN}/cargo-credential-nightporter "$@"\n')
    program.chmod(0o755)
    ready.environment["PATH"] = f"{place}:{ready.environment['PATH']}"
    ready.environment["CARGO_HOME"] = str(ready.path)
    file = ready.path / "config.toml"
    for _ in range(2):
        setup(ready, "cargo", "pitchpoint")
    assert tomllib.loads(file.read_text()) == {
        "registry": {"global-credential-providers": ["cargo:token", "nightporter"]},
        "credential-alias": {"nightporter": [str(program)]},
    }
    setup(ready, "cargo", "pitchpoint", "--undo")
    assert "nightporter" not in file.read_text()


def test_what_a_client_can_never_ask_for_is_left_out_and_said(ready: Home, vendor: Vendor) -> None:
    hosts = '"reg.example.com", "reg.example.com/team", "http://localhost:5000"'
    ready.configure(pitchpoint_config(vendor.address, more=f"hosts = [{hosts}]"))
    stub(ready, "go", "echo netrc")
    said = setup(ready, "terraform", "pitchpoint")
    assert (
        "left out, since Terraform tells neither path nor scheme: reg.example.com/team, h" in said
    )
    assert "Go asks for https alone: http://localhost:5000" in setup(ready, "go", "pitchpoint")
    ready.configure(pitchpoint_config(vendor.address, more='hosts = ["http://localhost:5000"]'))
    for client in ("terraform", "go", "docker", "kubelet"):
        assert "holds nothing else" in setup(ready, client, "pitchpoint", code=7)


def test_docker_s_helper_is_found_on_path_alone_and_that_is_said(ready: Home) -> None:
    assert f"need {BIN} on theirs" in setup(ready, "docker", "pitchpoint")


def test_an_undo_tells_what_still_names_a_file_that_is_gone(ready: Home, vendor: Vendor) -> None:
    more = f'hosts = [{HOSTS}]\ngoogle_audiences = ["//iam/x"]'
    ready.configure(pitchpoint_config(vendor.address, more=more))
    for client in ("google", "kubelet"):
        setup(ready, client, "pitchpoint")
    file = ready.data / "google/pitchpoint.json"
    ready.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)
    assert "unset GOOGLE_APPLICATION" in setup(ready, "google", "pitchpoint", "--undo")
    assert "image-credential-provider" in setup(ready, "kubelet", "pitchpoint", "--undo")
    assert "flags" not in setup(ready, "kubelet", "pitchpoint", "--undo")
