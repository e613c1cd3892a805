"""What a start loads: modules, not milliseconds."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.support import Home, clean_environment
from nightporter.client.connections import open_store
from nightporter.core.errors import ConfigError
from nightporter.core.model import StoreConfig
from nightporter.machine.room import with_room, without_collector
from nightporter.stores import vault_login

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


def run_code(code: str) -> str:
    """Returns what the code prints, in a Python of its own; a word on standard error fails."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_requests_does_without_charset_detection_in_the_command() -> None:
    """Not loaded, nothing said, and a text without a stated encoding is read as UTF-8."""
    code = (
        "from nightporter.net.lean import import_less; import_less()\n"
        "import requests, sys\n"
        "reply = requests.Response(); reply._content = 'Grüße'.encode()\n"
        "assert reply.text == 'Grüße', reply.text\n"
        "print(sys.modules['charset_normalizer'], sys.modules['chardet'])"
    )
    assert run_code(code) == "None None\n"


ON_DEMAND = {"hvac.v1", "hvac.api.system_backend", "idna.core"}


def test_the_command_loads_of_hvac_and_urllib3_what_it_uses() -> None:
    """The store of Vault as the command opens it; a library's user gets the whole hvac."""
    code = "import nightporter.stores.vault, nightporter.stores.vault_login"
    lean = "from nightporter.net.lean import import_less; import_less(); "
    assert modules_of(lean + code) & {*ON_DEMAND, "importlib.metadata"} == set()
    assert modules_of(code) >= ON_DEMAND


def test_the_command_loads_of_the_standard_library_what_it_uses() -> None:
    """What was put off works as soon as it is used, by every way to ask."""
    code = (
        "from nightporter.net import lean; lean.import_less()\n"
        "import nightporter.net.http, nightporter.stores.vault, sys, shutil\n"
        "used = {'inspect'} if sys.version_info >= (3, 14) else set()  # by logging's dataclasses\n"
        "for name in lean.MODULES - used:\n"
        "    assert name not in sys.modules or '__getattr__' in vars(sys.modules[name]), name\n"
        "assert {'_bz2', '_lzma'}.isdisjoint(sys.modules)\n"
        "from inspect import signature\n"
        "assert list(signature(lambda a: a).parameters) == ['a']\n"
        "import tokenize, zipfile\n"
        "assert tokenize.open and not zipfile.is_zipfile(sys.executable)\n"
        "assert not hasattr(zipfile, 'nothing')\n"
        "assert 'zip' in [kind for kind, _ in shutil.get_archive_formats()]\n"
        "try:\n"
        "    1 // 0\n"
        "except ZeroDivisionError:\n"
        "    import traceback\n"
        "    print(traceback.format_exc().count('ZeroDivisionError'))"
    )
    assert run_code(code) == "1\n"


def test_what_was_put_off_is_whole_for_every_thread() -> None:
    """The first runs it; the others wait for all of it."""
    code = (
        "from nightporter.net import lean; lean.import_less()\n"
        "import inspect, sys, threading, zipfile\n"
        "sys.setswitchinterval(1e-6)\n"
        "start, failed = threading.Barrier(8), []\n"
        "def ask():\n"
        "    start.wait()\n"
        "    try:\n"
        "        zipfile.sizeEndCentDir64, inspect.stack, zipfile.main\n"
        "    except Exception as exc:\n"
        "        failed.append(exc)\n"
        "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()\n"
        "print(failed)"
    )
    assert run_code(code) == "[]\n"


def test_secrets_manager_is_asked_without_boto3_s_own_layer() -> None:
    """It has resources, which we use none of, and takes a twelfth of a client's cold start."""
    loaded = modules_of("import nightporter.stores.secrets_manager")
    assert "botocore.session" in loaded
    assert "boto3" not in loaded


def test_what_was_put_off_is_there_as_soon_as_it_is_asked_for() -> None:
    """Names of a package's own code and its modules, by every way to ask; other names are missing
    as they always were."""
    code = (
        "from nightporter.net.lean import import_less; import_less()\n"
        "import hvac.adapters, hvac.api.secrets_engines.kv_v2, idna, sys, urllib3.http2\n"
        "if hasattr(urllib3.http2, '__path__'):  # 2.2's needs h2\n"
        "    import urllib3.http2.probe\n"
        "    assert callable(urllib3.http2.inject_into_urllib3)\n"
        "assert not hasattr(hvac, '__wrapped__') and 'hvac.v1' not in sys.modules\n"
        "assert hvac.utils is sys.modules['hvac.utils'] and 'hvac.v1' not in sys.modules\n"
        "assert hvac.Client('http://127.0.0.1:1', token='t').secrets.kv.v2\n"
        "from hvac.api.auth_methods import AppRole\n"
        "assert AppRole in hvac.api.AuthMethods.implemented_classes\n"
        "assert idna.encode('bücher.example') == b'xn--bcher-kva.example'\n"
        "for name in ('hvac', 'idna'):\n"
        "    assert not hasattr(sys.modules[name], 'nothing'), name\n"
        "try:\n"
        "    import hvac.nothing\n"
        "except ModuleNotFoundError as exc:\n"
        "    print(exc.name)"
    )
    assert run_code(code) == "hvac.nothing\n"


def test_every_login_of_vault_is_found_in_the_command() -> None:
    """Each imports a module of hvac when it runs."""
    source = Path(vault_login.__file__).read_text()
    imports = re.findall(r"from hvac\.api\S+ import (?!\()\w+", source)
    assert len(imports) == 4
    lean = "from nightporter.net.lean import import_less; import_less()\n"
    assert run_code(lean + "\n".join(imports)) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_no_call_below_meets_a_border_of_the_stack() -> None:
    """Twenty calls from any depth map no memory; without the room some depth maps it for each."""
    code = (
        "import resource\n"
        "from nightporter.machine.room import with_room\n"
        "def leaf(a=1, b=2, c=3, d=4, e=5, f=6, g=7, h=8): return max(a, b, c, d, e, f, g, h)\n"
        "def calls():\n"
        "    for _ in range(20): leaf()\n"
        "def worst(depth):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    calls()\n"
        "    here = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "    return max(here, worst(depth - 1)) if depth else here\n"
        "print(with_room(lambda: worst(600)), worst(600))"
    )
    inside, outside = map(int, run_code(code).split())
    assert inside < 10
    assert outside >= 20 or sys.version_info >= (3, 13)  # 3.13.15 gives no chunk back at once


def test_a_refresh_of_a_token_that_is_reused_asks_for_no_time_zone(home: Home) -> None:
    """zoneinfo takes longer to load than all else that such an exchange decides."""
    home.environment["NIGHTPORTER_CACHE"] = "off"
    assert home.run("token").code == 0  # signs in
    command = "from nightporter.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", command, "token"],
        env=home.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "requests.adapters" in done.stderr
    assert "zoneinfo" not in done.stderr


def test_a_store_whose_library_is_missing_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the name of what is missing, wherever in its imports that was found."""
    monkeypatch.setitem(sys.modules, "hvac", None)
    monkeypatch.delitem(sys.modules, "nightporter.stores.vault", raising=False)
    with pytest.raises(ConfigError, match="needs the package 'hvac'"):
        open_store(StoreConfig(name="v", type="vault", options={}), {}, lambda _text: None)


def test_what_runs_with_room_returns_and_raises_as_without() -> None:
    assert with_room(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        with_room(lambda: 1 // 0)


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_waits_and_is_as_it_was_afterwards(is_on: bool) -> None:
    """Also where what is called fails, or was called from such a call; a program that has it off
    keeps it off."""
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        assert without_collector(lambda: without_collector(gc.isenabled) or gc.isenabled()) is False
        assert gc.isenabled() is is_on
        with pytest.raises(ZeroDivisionError):
            without_collector(lambda: 1 // 0)
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_a_program_s_first_token_collects_little_garbage(home: Home) -> None:
    """What is imported lives as long as the process; looking through it was an eighth of a cold
    start. The collector is on afterwards."""
    code = (
        "import gc, nightporter\n"
        "gc.set_threshold(700, 10, 10)  # of 3.11; later ones look less often\n"
        "before = sum(one['collections'] for one in gc.get_stats())\n"
        "assert nightporter.get_token()\n"
        "assert gc.isenabled()\n"
        "print(sum(one['collections'] for one in gc.get_stats()) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=home.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30  # 34 or more without any one of the pauses


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_meanwhile_has_a_collector() -> None:
    """Nobody would put it on again there: the thread that would isn't in the child."""
    code = (
        "import gc, os\n"
        "from nightporter.machine.room import without_collector\n"
        "def child():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(gc.isenabled())\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "found = [without_collector(child), gc.isenabled(), child()]\n"
        "gc.disable()\n"
        "print(*found, without_collector(child), child())"
    )
    assert run_code(code) == "1 True 1 0 0\n"
