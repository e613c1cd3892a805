"""The program `keyring` that `setup keyring` makes: answers for our hosts, and everything else for
the program that would have been run without it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lab.patience import patience
from lab.support import BIN, Done, Home, pitchpoint_config
from lab.worlds.door import LAUNCHER
from lab.worlds.vendor import Vendor
from nightporter.machine import reply as door
from nightporter.machine.reply_writer import SETTLED_S
from nightporter.protocols.keyring import parse

INDEX = "https://pypi.example.com/simple/"
REAL = """\
#!/bin/sh
echo "real: $*"
[ -t 0 ] || sed 's/^/read: /'
exit 3
"""


@pytest.fixture
def using(home: Home, vendor: Vendor) -> Home:
    """Who has put our program before the others in PATH, and has no other one."""
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["pypi.example.com"]'))
    place = home.data / "wrappers/keyring"
    home.environment["PATH"] = f"{place}:{without_keyring(home.path / 'programs')}"
    made = home.run("setup", "keyring", "pitchpoint")
    assert made.code == 0, made.err
    assert "PATH=" not in made.err  # it is there already
    return home


def without_keyring(place: Path) -> Path:
    """A directory with the machine's programs, but none that is named keyring."""
    place.mkdir()
    for directory in ("/usr/bin", "/bin"):
        for program in Path(directory).iterdir():
            if program.name != "keyring" and not (place / program.name).is_symlink():
                (place / program.name).symlink_to(program)
    return place


def real(home: Home, text: str = REAL, *, at: str = "desktop") -> Path:
    """A program of the same name, last in PATH."""
    program = home.path / at / "keyring"
    program.parent.mkdir()
    program.write_text(text)
    program.chmod(0o755)
    home.environment["PATH"] += f":{program.parent}"
    return program


def keyring(home: Home, *words: str, stdin: str = "") -> Done:
    done = subprocess.run(
        ["keyring", *words],
        env=home.environment,
        cwd=home.path,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=patience(90),
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (f"get {INDEX} oauth2", "{token}\n"),
        (f"get {INDEX} --mode creds", "oauth2\n{token}\n"),
        (f"--mode=creds --output=json get {INDEX}", "oauth2+{token}"),
        (f"--mode creds get {INDEX} oauth2 --output plain", "oauth2\n{token}\n"),
        (f"get --output json {INDEX} oauth2", "{token}"),
        ("get pypi.example.com oauth2", "{token}\n"),
        ("get https://oauth2@pypi.example.com/ oauth2", "{token}\n"),
        ("get https://pypi.example.com:443/x oauth2", "{token}\n"),
    ],
)
def test_what_pip_and_uv_ask(line: str, wanted: str, using: Home, vendor: Vendor) -> None:
    """Twice: the second answer may be the launcher's."""
    token = using.run("token").out.strip()
    time.sleep(SETTLED_S * 1.5)
    real(using)
    for _ in range(2):
        done = keyring(using, *line.split())
        assert (done.code, done.err) == (0, "")
        shown = done.out
        if "json" in line:
            shown = "+".join(json.loads(shown).values())
        assert shown == wanted.format(token=token)
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize("words", [("get", INDEX, "oauth2"), ("get", INDEX, "--mode", "creds")])
def test_the_second_answer_is_a_reply(words: tuple[str, ...], using: Home) -> None:
    using.run("token")
    time.sleep(SETTLED_S * 1.5)
    first = keyring(using, *words).out
    ask = door.Ask(["credential", "keyring", *words], using.environment)
    assert f"{door.answer(ask, time.time())}\n" == first
    wrapper = using.data / "wrappers/keyring/keyring"
    launcher = using.path / "alone/nightporter"  # the launcher, and no Python beside it
    launcher.parent.mkdir()
    shutil.copy(LAUNCHER, launcher)
    wrapper.write_text(wrapper.read_text().replace(str(BIN / "nightporter"), str(launcher)))
    assert str(launcher) in wrapper.read_text()
    (using.path / "programs/python3").unlink(missing_ok=True)
    assert keyring(using, *words).out == first
    assert keyring(using, *words, "--output=json").out == ""


@pytest.mark.parametrize(
    "line",
    [
        "get https://elsewhere.example/ oauth2",
        "get https://elsewhere.example/ --mode creds",
        f"get {INDEX} alice",
        "get https://alice@pypi.example.com/ --mode=creds",
        "get http://pypi.example.com/simple/ oauth2",
        "get wallet me",
        "set elsewhere.example me",
        "del elsewhere.example me",
        "--list-backends",
        "--help",
        "-h",
        "diagnose -v",
        "get -- wallet -v",
        "-p/opt/venv/lib get wallet me",
        f"get {INDEX} --config=evil.toml",
        f"get {INDEX} --config evil.toml",
        f"get {INDEX} --timeout=1",
        f"--mode=creds --output=json get {INDEX} --config=evil.toml",
        f"--mode=creds --output=json get {INDEX} -v",
        "get https://elsewhere.example?x=@pypi.example.com/simple/ oauth2",
        "get https://oauth2@elsewhere.example?@pypi.example.com/simple/ oauth2",
        "get https://elsewhere.example#@pypi.example.com/simple/ oauth2",
        "get https://elsewhere.example\\@pypi.example.com/simple/ oauth2",
        "get https://alice@pypi.example.com/ oauth2",
        "diagnose",
        f"-b keyring.backends.fail.Keyring get {INDEX} oauth2",
        f"get {INDEX}",
        f"get {INDEX} oauth2 --mode other",
        f"get {INDEX} oauth2 --mode",
        f"get {INDEX} oauth2 --output",
        f"get {INDEX} oauth2 more",
        f"set {INDEX}",
        f"unlock {INDEX} oauth2",
        "",
    ],
)
def test_what_isn_t_ours_is_the_real_program_s(line: str, using: Home, vendor: Vendor) -> None:
    """Word for word, with standard input as it is and its exit code; alone, nothing is found."""
    done = keyring(using, *line.split())
    assert (done.code, done.out) == (1, "")
    is_question = parse(line.split()) is not None and line.startswith("get")
    assert ("no other program `keyring`" in done.err) is not is_question
    assert is_question <= (done.err == "")
    real(using)
    done = keyring(using, *line.split(), stdin="hunter2")
    assert (done.code, done.out) == (3, f"real: {line}\nread: hunter2")
    assert vendor.count("sign-in") == 0


def test_alone_a_question_is_silent_and_a_change_is_told(using: Home) -> None:
    silent = keyring(using, "get", "https://elsewhere.example/", "me")
    assert (silent.code, silent.out, silent.err) == (1, "", "")
    told = keyring(using, "set", "elsewhere.example", "me", stdin="hunter2")
    assert (told.code, told.out) == (1, "")
    assert "no other program `keyring`" in told.err
    assert "unrecognized arguments" not in told.err  # what pip takes for an old keyring


def test_nothing_is_kept_or_deleted_for_our_hosts(using: Home) -> None:
    real(using)
    for words, said in (
        (("set", INDEX, "oauth2"), "stores no passwords"),
        (("set", "https://oauth2@pypi.example.com/", "oauth2"), "stores no passwords"),
        (("del", INDEX, "oauth2"), "nightporter logout pitchpoint"),
    ):
        done = keyring(using, *words, stdin="hunter2")
        assert (done.code, done.out) == (1, "")
        assert said in done.err


def test_a_failure_of_ours_asks_nobody_else(using: Home, vendor: Vendor) -> None:
    """A stale copy on the desktop isn't preferred. `status` knows what pip keeps to itself."""
    real(using)
    vendor.world.users = {}
    done = keyring(using, "get", INDEX, "oauth2")
    assert (done.code, done.out) == (1, "")
    assert "reference: credentials-refused" in done.err
    assert "keyring" in using.run("status").out


def test_a_host_of_two_profiles_is_named(using: Home, vendor: Vendor) -> None:
    real(using)
    two = '[profiles.two]\nissuer = "pitchpoint"\ncredentials = "two"\nhosts = ["*.example.com"]\n'
    more = 'hosts = ["pypi.example.com"]\n'
    using.configure(pitchpoint_config(vendor.address, more=more + two))
    done = keyring(using, "get", INDEX, "oauth2")
    assert (done.code, done.out) == (1, "")
    assert "'two'" in done.err


@pytest.mark.parametrize("operation", ["get", "set"])
def test_a_broken_configuration_is_told_and_holds_up_nobody(operation: str, using: Home) -> None:
    real(using)
    using.configure("nonsense = 1\n")
    done = keyring(using, operation, "https://elsewhere.example/", "me")
    assert done.code == 3
    assert "nonsense" in done.err


def test_without_a_configuration_nothing_is_said(using: Home) -> None:
    real(using)
    using.config_file.unlink()
    done = keyring(using, "get", INDEX, "oauth2")
    assert (done.code, done.out, done.err) == (3, f"real: get {INDEX} oauth2\n", "")


def test_after_plain_http_the_bare_host_has_no_answer_at_the_door_either(using: Home) -> None:
    """pip asks for it next, and would send the token in clear; a reply kept before isn't used."""
    ours = ("get", "pypi.example.com", "oauth2")
    using.run("token")
    time.sleep(SETTLED_S * 1.5)
    for _ in range(2):
        assert keyring(using, *ours).code == 0
    assert keyring(using, "get", "http://pypi.example.com/simple/", "oauth2").code == 1
    assert keyring(using, *ours).code == 1
    assert keyring(using, "get", INDEX, "oauth2").code == 0


def test_it_never_runs_itself(using: Home) -> None:
    """Copies and links of what setup wrote, what can't be run, and what a checkout has are passed
    by."""
    ours = (using.data / "wrappers/keyring/keyring").read_text()
    real(using, ours, at="copy")
    link = using.path / "link/keyring"
    link.parent.mkdir()
    link.symlink_to(using.data / "wrappers/keyring/keyring")
    (using.path / "directory/keyring").mkdir(parents=True)
    plain = using.path / "plain/keyring"
    plain.parent.mkdir()
    plain.write_text(REAL)
    using.environment["PATH"] += "".join(
        f":{using.path}/{name}" for name in ("link", "directory", "plain")
    )
    real(using, REAL, at="checkout")
    head, _, _ = using.environment["PATH"].rpartition(":")
    using.environment["PATH"] = f"{head}:checkout:"
    assert keyring(using, "diagnose").code == 1
    real(using)
    assert keyring(using, "diagnose").out.startswith("real: diagnose")


def test_what_can_t_be_run_is_told(using: Home) -> None:
    program = real(using, "#!/nowhere/sh\n")
    done = keyring(using, "diagnose")
    assert (done.code, done.out) == (1, "")
    assert f"{program}: can't be run" in done.err


def test_the_real_program_gets_the_signals_and_limits_that_it_would_have(using: Home) -> None:
    real(
        using,
        '#!/bin/sh\necho "$(ulimit -c) ${NIGHTPORTER_CORE_LIMIT-none}"\n(yes; echo "$?" >&2) | :',
    )
    command = ["sh", "-c", "ulimit -S -c 4; keyring diagnose"]
    done = subprocess.run(command, env=using.environment, capture_output=True, text=True)
    assert done.stdout == "4 none\n"
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize("target", [">&-", ">/dev/full"])
def test_a_standard_output_that_takes_nothing(target: str, using: Home, vendor: Vendor) -> None:
    """The client has gone, or its disk is full: no defect of ours, and nobody else is asked."""
    real(using, "#!/bin/sh\necho asked >asked\n")
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-c", f"keyring get {INDEX} oauth2 {target}"],
            env=using.environment,
            cwd=using.path,
            capture_output=True,
            text=True,
        )
        assert "a defect" not in done.stderr
        assert done.returncode == 1
    assert vendor.count("sign-in") == 1
    assert not (using.path / "asked").exists()


@pytest.mark.parametrize("with_config", [False, True])
def test_no_word_of_the_client_s_is_an_option_of_ours(with_config: bool, using: Home) -> None:
    """pip hands the user name of an index address on as it is, and a checkout may have written
    both it and the file that it names."""
    real(using)
    config = ("--config", str(using.config_file)) if with_config else ()
    assert using.run(*config, "setup", "keyring", "pitchpoint").code == 0
    evil = using.config_file.read_text().replace("pypi.example.com", "evil.example")
    (using.path / "evil.toml").write_text(evil)
    words = ("--mode=creds", "--output=json", "get", "https://evil.example/", "--config=evil.toml")
    done = keyring(using, *words)
    assert (done.code, done.out) == (3, f"real: {' '.join(words)}\n")
    assert keyring(using, "--help").out == "real: --help\n"
    assert keyring(using, "get", INDEX, "oauth2").code == 0


def test_a_shim_that_runs_us_again_is_passed_by(using: Home) -> None:
    """A version manager's, which looks for the next program in PATH without its own directory."""
    shim = using.path / "shims/keyring"
    real(
        using,
        f'#!/bin/sh\nPATH=$(echo "$PATH" | sed "s|:{shim.parent}||") exec keyring "$@"\n',
        at="shims",
    )
    assert keyring(using, "get", "https://elsewhere.example/", "me").code == 1
    real(using)
    assert keyring(using, "diagnose").out == "real: diagnose\n"
    mine = '#!/bin/sh\nexec nightporter credential keyring "$@"\n'
    real(using, mine, at="mine")
    using.environment["PATH"] = f"{BIN}:{using.path}/mine:{using.path}/programs"
    assert keyring(using, "get", INDEX, "oauth2").code == 0


@pytest.mark.parametrize("option", ["--config=evil.toml", "--help", "-v", "--timeout=1"])
def test_words_behind_keyring_are_the_client_s_wherever_our_options_stand(
    option: str, using: Home
) -> None:
    """As in somebody's own wrapper."""
    real(using)
    evil = using.config_file.read_text().replace("pypi.example.com", "evil.example")
    (using.path / "evil.toml").write_text(evil)
    ours = ("-v", "--config", str(using.config_file), "credential", "--timeout", "20", "keyring")
    assert using.run(*ours, "get", INDEX, "oauth2").code == 0
    done = using.run(*ours, "get", "https://evil.example/", "oauth2", option)
    assert (done.code, done.out) == (3, f"real: get https://evil.example/ oauth2 {option}\n")


@pytest.mark.parametrize("words", [("credential", "--help", "keyring"), ("credential", "-h")])
def test_help_before_the_protocol_is_ours(words: tuple[str, ...], home: Home) -> None:
    done = home.run(*words)
    assert done.code == 0
    assert "PROTOCOL" in done.out


def test_a_named_configuration_that_is_gone_is_told(using: Home) -> None:
    """The wrapper of `setup keyring` names it; nobody is held up."""
    real(using)
    gone = str(using.path / "gone.toml")
    done = using.run("credential", "--config", gone, "keyring", "get", INDEX, "oauth2")
    assert (done.code, done.out) == (3, f"real: get {INDEX} oauth2\n")
    assert gone in done.err


def test_kubectl_s_plugin_gets_nothing_of_ours_and_all_of_the_others(using: Home) -> None:
    """Contract 8: under KUBERNETES_EXEC_INFO `exec-credential` alone answers, also where a reply
    lies ready."""
    using.run("token")
    time.sleep(SETTLED_S * 1.5)
    for _ in range(2):
        assert keyring(using, "get", INDEX, "oauth2").code == 0
    using.environment["KUBERNETES_EXEC_INFO"] = "{}"
    done = keyring(using, "get", INDEX, "oauth2")
    assert (done.code, done.out) == (1, "")
    real(using)
    assert keyring(using, "get", "wallet", "me").out == "real: get wallet me\n"


@pytest.mark.parametrize("blank", ["\u3000", "\u00a0", " ", "\n", "\t", "\x1f"])
def test_a_service_with_blanks_around_it_is_no_host(blank: str, using: Home) -> None:
    real(using)
    for address in (f"{blank}http://pypi.example.com/", f"{INDEX}{blank}", f"{blank}{INDEX}"):
        done = keyring(using, "get", address, "oauth2")
        assert (done.code, done.err) == (3, "")


def test_no_reply_for_an_address_that_may_hold_a_secret(using: Home) -> None:
    using.run("token")
    time.sleep(SETTLED_S * 1.5)
    for _ in range(2):
        assert keyring(using, "get", f"{INDEX}secret-token-abc/", "oauth2").code == 0
    assert not [path for path in using.cache.iterdir() if "abc" in path.name]


def test_setup_says_what_to_put_in_path_and_takes_it_back(home: Home, vendor: Vendor) -> None:
    home.environment["PATH"] = str(without_keyring(home.path / "programs"))
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["pypi.example.com"]'))
    program = home.data / "wrappers/keyring/keyring"
    shown = home.run("setup", "keyring", "pitchpoint", "--print")
    assert f"exec {BIN}/nightporter credential keyring" in shown.out.replace("'", "")
    assert not program.exists()
    said = home.run("setup", "keyring", "pitchpoint").err
    line = next(word for word in shlex.split(said.replace(",", " ")) if word.startswith("PATH="))
    assert line == f"PATH={program.parent}:$PATH"
    assert program.stat().st_mode & 0o777 == 0o700
    assert "nothing to change" in home.run("setup", "keyring", "pitchpoint").err
    home.configure(
        pitchpoint_config(vendor.address, more='hosts = ["pypi.example.com"]')
        + '[profiles.two]\nissuer = "pitchpoint"\ncredentials = "two"\nhosts = ["a.example.com"]\n'
    )
    assert "left as it is" in home.run("setup", "keyring", "two", "--undo").err
    assert program.exists()
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["pypi.example.com"]'))
    assert home.run("setup", "keyring", "pitchpoint", "--undo").code == 0
    assert not program.exists()


def test_it_hands_on_the_configuration_that_setup_was_given(using: Home, vendor: Vendor) -> None:
    other = using.path / "other.toml"
    other.write_text(pitchpoint_config(vendor.address, more='hosts = ["other.example.com"]'))
    made = using.run("--config", str(other), "setup", "keyring", "pitchpoint")
    assert made.code == 0
    assert "another configuration than before" in made.err
    assert keyring(using, "get", "https://other.example.com/", "oauth2").code == 0
    assert keyring(using, "get", INDEX, "oauth2").code == 1
    assert keyring(using, "set", "https://other.example.com/", "oauth2").err.count("stores no") == 1
    program = using.data / "wrappers/keyring/keyring"
    assert "another configuration" in using.run("setup", "keyring", "pitchpoint", "--undo").err
    assert program.exists()
    config = ("--config", str(other))
    assert using.run(*config, "setup", "keyring", "pitchpoint", "--undo").code == 0
    assert not program.exists()


def test_setup_of_uv_is_content_with_it(using: Home) -> None:
    """It has no list of backends, and needs no library of keyring's."""
    uv = using.path / ".config/uv/uv.toml"
    other = using.path / "other.toml"
    other.write_text(using.config_file.read_text())
    refused = using.run("--config", str(other), "setup", "uv", "pitchpoint")
    assert refused.code == 2
    command = f"nightporter --config {other} setup keyring pitchpoint"
    assert f"Run `{command}`" in refused.err
    assert not uv.exists()
    assert using.run(*command.split()[1:]).code == 0
    assert using.run("--config", str(other), "setup", "uv", "pitchpoint").code == 0
    assert "subprocess" in uv.read_text()
    assert using.run("setup", "uv", "pitchpoint").code == 2
    dry = using.run("setup", "uv", "pitchpoint", "--print")
    assert (dry.code, dry.out) == (0, "# nothing to do\n")
    using.environment["PATH"] = str(using.path / "programs")
    done = using.run("setup", "uv", "pitchpoint")
    assert done.code == 2
    assert "`nightporter setup keyring pitchpoint`" in done.err
    done = using.run("--config", str(other), "setup", "uv", "pitchpoint")
    assert done.code == 2
    assert f"`{command}`" in done.err
