"""A store that a package brings by an entry point is a store like ours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.patience import patience
from lab.support import ROOT, Done, Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.machine import reply
from nightporter.session.port import Store
from nightporter.stores import OURS, STORES
from nightporter.stores.local import LocalStore
from nightporter.testing import StoreContract

MODULE = '''
from nightporter.core import checks
from nightporter.core.store_description import Question, StoreDescription
from nightporter.stores.local import LocalStore

class ShelfStore(LocalStore):
    """Ours, under another name."""

def open_store(options, environment, notify, data_directory):
    return ShelfStore(options["shelf"])

def render_policy(needs):
    return f"{needs.title}: {' '.join([*needs.reads, *needs.writes])}"

DESCRIPTION = StoreDescription(
    type="shelf",
    adapter="shelf_store",
    comment="A shelf in the hall.",
    keys={"shelf": checks.absolute},
    identity_variables=["SHELF_USER"],
    questions=[Question(key="shelf", text="Which shelf")],
    render_policy=render_policy,
)
'''


@dataclass
class Installed:
    """A home on a machine where the package is installed."""

    home: Home
    packages: Path

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> Done:
        code = (
            f"import sys; sys.path.insert(0, {str(self.packages)!r});"
            " from nightporter.__main__ import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**self.home.environment, **variables},
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def installed(empty_home: Home, tmp_path: Path) -> Installed:
    packages = tmp_path / "packages"
    (packages / "shelf_store-1.0.dist-info").mkdir(parents=True)
    (packages / "shelf_store.py").write_text(MODULE)
    about = packages / "shelf_store-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf-store\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[nightporter.stores]\nshelf = shelf_store:DESCRIPTION\n"
    )
    return Installed(empty_home, packages)


def configure(installed: Installed, address: str, more: str = "") -> None:
    shelf = installed.home.path / "shelf"
    stores = f'[stores.hall]\ntype = "shelf"\nshelf = "{shelf}"\n'
    installed.home.configure(pitchpoint_config(address, more=more, stores=stores))


def test_its_configuration_is_checked(installed: Installed, vendor: Vendor) -> None:
    """Its keys are known, and a wrong one is named with the nearest spelling."""
    configure(installed, vendor.address)
    assert installed.run("config", "check").code == 0
    assert 'type = "shelf"' in installed.run("config", "show").out
    installed.home.configure('[stores.hall]\ntype = "shelf"\nshelv = "/x"\n')
    done = installed.run("config", "check")
    assert done.code == 2
    assert "did you mean 'shelf'?" in done.err


def test_init_asks_for_what_it_needs(installed: Installed, vendor: Vendor) -> None:
    """`init` takes the type and its keys, and ends with a token."""
    shelf = str(installed.home.path / "shelf")
    done = installed.run(
        *("init", "p", "--vendor", "pitchpoint", "--base-url", vendor.address),
        *("--store", "shelf", "--store-option", f"shelf={shelf}", "--credentials", "prod/p"),
        stdin='{"username": "svc-acme", "password": "correct-horse"}',
    )
    assert done.code == 0, done.err
    written = installed.home.config_file.read_text()
    assert "# A shelf in the hall." in written
    assert f'shelf = "{shelf}"' in written
    assert (Path(shelf) / "prod%2Fp.json").exists()


def test_doctor_and_policy_know_it(installed: Installed, vendor: Vendor) -> None:
    """`doctor` names the variables that pick its identity, `policy` prints in its language."""
    configure(installed, vendor.address)
    members = '{"username": "svc-acme", "password": "correct-horse"}'
    assert installed.run("credentials", "set", stdin=members).code == 0
    done = installed.run("doctor", SHELF_USER="ann")
    assert "store 'hall' is reachable" in done.out, done.err
    assert "SHELF_USER" in done.out
    assert installed.run("policy", "--role", "full").out == (
        "pitchpoint, role full: prod/pitchpoint prod/pitchpoint/refresh-token\n"
    )


def test_another_identity_never_gets_a_cached_token(installed: Installed, vendor: Vendor) -> None:
    """Its identity variables are in the cache key, and the door keeps no reply for them."""
    configure(installed, vendor.address)
    members = '{"username": "svc-acme", "password": "correct-horse"}'
    assert installed.run("credentials", "set", stdin=members).code == 0
    for user, exchanges in (("ann", 1), ("ann", 1), ("bob", 2)):
        assert installed.run("token", SHELF_USER=user).code == 0
        assert vendor.count("sign-in") + vendor.count("refresh") == exchanges
    assert not list(installed.home.cache.glob("*.reply"))


def test_a_package_that_brings_something_else_is_named(installed: Installed) -> None:
    """An entry point that can't be loaded is a configuration error with its module."""
    (installed.packages / "shelf_store.py").write_text("raise RuntimeError('broken')\n")
    installed.home.configure('[stores.hall]\ntype = "shelf"\n')
    done = installed.run("config", "check")
    assert done.code == 2
    assert "shelf_store: RuntimeError" in done.err


def test_our_own_stores_look_at_no_entry_point() -> None:
    """A cached answer never pays for the packages of others."""
    code = (
        "import sys; from nightporter.stores import STORES, OURS; [STORES[kind] for kind in OURS];"
        " print('importlib.metadata' in sys.modules, 'hvac' in sys.modules, 'boto3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_the_front_door_compares_every_variable_of_our_stores() -> None:
    """A variable that picks an identity and that the door doesn't compare would let another
    identity's token out."""
    launcher = (ROOT / "plugin/nightporter/launchers/nightporter").read_text()
    identity = {name for kind in OURS for name in STORES[kind].identity_variables}
    secret = {name for kind in OURS for name in STORES[kind].secret_variables}
    own = {name for name in reply.VARIABLES if name.startswith(("XDG_", "NIGHTPORTER_"))}
    assert set(reply.VARIABLES) == identity | own
    assert set(reply.SECRET_VARIABLES) == secret
    for name in identity:
        assert f"${{{name}+{name}=${name}$np_nl}}" in launcher, name
    for name in secret:
        assert f"${{{name}+{name}$np_nl}}" in launcher, name


class TestShelf(StoreContract):
    """The ten lines of plugin/docs/adding.md."""

    @pytest.fixture(autouse=True)
    def _shelf(self, tmp_path: Path) -> None:
        self.shelf = str(tmp_path / "shelf")

    def open_store(self) -> Store:
        return LocalStore(self.shelf)
