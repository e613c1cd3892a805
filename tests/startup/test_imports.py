"""What a start loads: modules, not milliseconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.support import Home, clean_environment
from nightporter.machine.shallow import import_apart

HEAVY = ("requests", "hvac", "boto3", "botocore", "urllib3", "keyring", "cachetools", "asyncio")
SLOW = (
    "dataclasses",
    "inspect",
    "zoneinfo",
    "urllib.request",
    "sysconfig",
)  # of the standard library


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where coverage is measured, each process loads what coverage needs."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def modules_of(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_third_party_package() -> None:
    bare, ours = modules_of("pass"), modules_of("import nightporter")
    foreign = (
        {name.split(".")[0] for name in ours - bare}
        - {"nightporter"}
        - set(sys.stdlib_module_names)
    )
    assert foreign == set()
    assert "dataclasses" not in ours


def test_a_cached_answer_loads_no_network_library(home: Home) -> None:
    assert home.run("token").code == 0
    for reply in home.cache.glob(
        "*.reply"
    ):  # else it would be answered without any module of ours but one
        reply.unlink()
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "from nightporter.__main__ import main; main()",
            "token",
        ],
        env=home.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert {name.split(".")[0] for name in loaded} & set(HEAVY) == set()
    assert loaded & set(SLOW) == set()


def test_requests_does_without_charset_detection_in_the_command() -> None:
    """Not loaded, nothing said, and a text without a stated encoding is read as UTF-8."""
    code = (
        "from nightporter.net.lean import leave_out_charsets; leave_out_charsets()\n"
        "import requests, sys\n"
        "reply = requests.Response(); reply._content = 'Grüße'.encode()\n"
        "assert reply.text == 'Grüße', reply.text\n"
        "print(sys.modules['charset_normalizer'], sys.modules['chardet'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("None None\n", "")


def test_a_module_is_imported_in_a_thread_and_its_failure_reaches_the_caller() -> None:
    """So that a store whose library is missing is named as such."""
    assert import_apart("colorsys").rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
    with pytest.raises(ModuleNotFoundError) as caught:
        import_apart("no_such_module_at_all")
    assert caught.value.name == "no_such_module_at_all"
