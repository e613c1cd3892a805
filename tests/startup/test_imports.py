"""What a start loads: modules, not milliseconds."""

from __future__ import annotations

import subprocess
import sys

from lab.support import Home, clean_environment

HEAVY = ("requests", "hvac", "boto3", "botocore", "urllib3", "keyring", "cachetools", "asyncio")


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
    loaded = {
        line.rsplit("|", 1)[1].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if "|" in line
    }
    assert loaded & set(HEAVY) == set()
