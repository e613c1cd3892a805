"""Three real OpenBao servers in one raft cluster, whose members can be killed and come back."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lab.patience import patience
from lab.support import BIN, OpenBao, clean_environment, free_port

T = TypeVar("T")
SIZE = 3
READY_S = 60.0


@dataclass
class Node:
    """One server of the cluster. `cluster_port` is for the others. `held`: its ports while it is
    down, since another test's server could be given them."""

    name: str
    place: Path
    port: int
    cluster_port: int
    process: subprocess.Popen[bytes] | None = None
    held: list[socket.socket] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        data = self.place / self.name
        data.mkdir(exist_ok=True)
        config = self.place / f"{self.name}.hcl"
        config.write_text(
            f"""
storage "raft" {{
  path = "{data}"
  node_id = "{self.name}"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{self.port}"
  cluster_address = "127.0.0.1:{self.cluster_port}"
  tls_disable = true
}}
api_addr = "{self.address}"
cluster_addr = "https://127.0.0.1:{self.cluster_port}"
disable_mlock = true
"""
        )
        self.release()
        self.process = subprocess.Popen(
            [str(BIN / "bao"), "server", f"-config={config}"],
            env=clean_environment(HOME=str(self.place)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """SIGKILL: nothing is handed over."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            for port in (self.port, self.cluster_port):
                self.held.append(holding := socket.socket())
                holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):  # taken already: the next start tells
                    holding.bind(("127.0.0.1", port))

    def release(self) -> None:
        """Gives its ports free."""
        while self.held:
            self.held.pop().close()

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        return OpenBao(self.address, token or "none").call(method, path, body)


@dataclass
class Cluster:
    """`key` unseals each member; `token` is root's."""

    nodes: list[Node]
    key: str = ""
    token: str = ""
    mounts: list[str] = field(default_factory=list)

    def living(self) -> list[Node]:
        return [node for node in self.nodes if node.process is not None]

    def leader(self) -> Node:
        """Returns the leader that the members agree on, once they do."""

        def find() -> list[Node]:
            answers = [node.call("GET", "sys/leader") for node in self.living()]
            told = {str(answer["leader_address"]) for answer in answers}
            found = [node for node in self.living() if node.address in told]
            return found if len(told) == 1 else []

        return eventually(find)[0]

    def open(self) -> None:
        first, *others = self.nodes
        first.start()
        body = {"secret_shares": 1, "secret_threshold": 1}
        made = eventually(lambda: first.call("PUT", "sys/init", body))
        self.key, self.token = made["keys_base64"][0], made["root_token"]
        self.unseal(first)
        for node in others:
            node.start()
            self.join(node, first)
            self.unseal(node)
        self.wait_until_whole()

    def join(self, node: Node, leader: Node) -> None:
        body = {"leader_api_addr": leader.address}
        eventually(lambda: node.call("POST", "sys/storage/raft/join", body))

    def unseal(self, node: Node) -> None:
        def unsealed() -> bool:
            node.call("PUT", "sys/unseal", {"key": self.key})
            return node.call("GET", "sys/seal-status")["sealed"] is False

        eventually(unsealed)

    def restart(self, node: Node) -> None:
        node.start()
        self.unseal(node)

    def wait_until_whole(self) -> None:
        """Until every member is a voter and answers reads: a leader may die then."""

        def voters() -> bool:
            state = self.leader().call("GET", "sys/storage/raft/configuration", token=self.token)
            servers = state["data"]["config"]["servers"]
            return [server["voter"] for server in servers] == [True] * SIZE

        eventually(voters)

    def mount(self) -> str:
        """A KV version 2 mount that is ready."""
        server = OpenBao(self.leader().address, self.token)
        name = server.mount()
        server.put(name, "ready", {"yes": "1"})
        self.mounts.append(name)
        return name

    def wait_until_read(self, node: Node, path: str) -> None:
        """Until the member itself holds what was written: it may answer without the others."""
        eventually(lambda: node.call("GET", path, token=self.token))

    def read(self, path: str) -> dict[str, Any]:
        """What the leader holds, which is never old."""
        found: dict[str, Any] = self.leader().call("GET", path, token=self.token)
        return found


def eventually(ask: Callable[[], T]) -> T:
    """What `ask` returns once it neither fails nor returns nothing."""
    deadline = time.monotonic() + patience(READY_S)
    while True:
        try:
            if found := ask():
                return found
        except (urllib.error.URLError, OSError, KeyError, json.JSONDecodeError):
            pass
        assert time.monotonic() < deadline, "the cluster is not ready"
        time.sleep(0.1)


@contextlib.contextmanager
def open_cluster(place: Path) -> Iterator[Cluster]:
    nodes = [Node(f"node-{number}", place, free_port(), free_port()) for number in range(SIZE)]
    cluster = Cluster(nodes)
    try:
        cluster.open()
        yield cluster
    finally:
        for node in nodes:
            node.kill()
            node.release()
