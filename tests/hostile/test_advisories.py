"""The script that asks for known weaknesses, against a server of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from lab.support import ROOT

LOCK = "urllib3==1.0 \\\n    --hash=sha256:00\nrequests==2.99 ; python_version < '4' \\\n"


def test_each_locked_version_is_asked_for(tmp_path: Path) -> None:
    asked: list[object] = []

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            asked.extend(queries)
            results = [
                {"vulns": [{"id": "GHSA-x"}]} if item["package"]["name"] == "urllib3" else {}
                for item in queries
            ]
            body = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    (tmp_path / "lock").write_text(LOCK)
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        command = [sys.executable, str(ROOT / "scripts/advisories.py"), "--address", address]
        done = subprocess.run([*command, str(tmp_path / "lock")], capture_output=True, text=True)
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stdout) == (1, "urllib3 1.0: GHSA-x\n"), done.stderr
    assert {"package": {"ecosystem": "PyPI", "name": "requests"}, "version": "2.99"} in asked
