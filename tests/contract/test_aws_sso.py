"""SSO sessions and a long process: what `aws sso login` renews is taken up without a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import botocore.credentials
import pytest

from lab.patience import patience
from lab.servers.sso_portal import CONFIG, Portal, open_portal
from lab.servers.strict_aws import StrictAws, open_strict_aws
from nightporter.core.errors import StoreDeniedError
from nightporter.session.port import ABSENT
from nightporter.stores.secrets_manager import SecretsManagerStore

pytestmark = pytest.mark.usefixtures("aws_environment")
T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    with open_portal() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", found.address)
        yield found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # botocore has looked HOME up when it was imported
    cache = str(tmp_path / ".aws/sso/cache")
    monkeypatch.setattr(botocore.credentials.SSOProvider, "_SSO_TOKEN_CACHE_DIR", cache)
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(CONFIG)
    return tmp_path


def test_a_session_that_is_renewed_needs_no_restart(home: Path, portal: Portal) -> None:
    """Not logged in, logged in, ended at the portal, logged in again: one store object."""
    with open_strict_aws(StrictAws()) as address:
        store = SecretsManagerStore({"endpoint_url": address}, dict(os.environ))

        def refused() -> str:
            with pytest.raises(StoreDeniedError) as caught:
                store.read(PATH, timeout_s=T)
            return caught.value.hint

        assert "aws sso login --profile work" in refused()
        portal.log_in(home, "first")
        portal.life_s = 60.0  # so near its end that botocore asks for the next at each use
        assert store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
        portal.tokens.clear()
        assert "aws sso login --profile work" in refused()
        portal.life_s = 3600.0
        portal.log_in(home, "second")
        assert store.read(PATH, timeout_s=T).value == {"n": 1}
        asked = portal.asked
        assert store.read(PATH, timeout_s=T).value == {"n": 1}
        assert portal.asked == asked
        store.close()
