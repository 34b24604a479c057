"""A Patroni cluster: three nodes, etcd and HAProxy, of Debian's packages, in folders of their own."""

import secrets
import shutil
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Self

import httpx
from sqlalchemy import URL

from tests.faults.durable import DURABLE
from tests.faults.patroni_nodes import PATH, POSTGRESQL, Leader, Node, Program
from tests.support.ports import free_port
from tests.support.postgres import HOST, IN_MEMORY, SUPERUSER, _folder, _give, _runs_as
from tests.support.waiting import wait_until

PACKAGES = {
    "etcd-server": shutil.which("etcd", path=PATH),
    "haproxy": shutil.which("haproxy", path=PATH),
    "patroni": shutil.which("patroni", path=PATH),
    "postgresql-15": shutil.which("postgres", path=str(POSTGRESQL)),
}
MISSING = [package for package, program in PACKAGES.items() if program is None]
INSTALL = f"there is no {', '.join(MISSING)}; on Debian 12, apt-get install python3-etcd {' '.join(PACKAGES)}"
STARTED_S_MAX = 60.0  # initdb, and a base backup for each standby
# Seconds. Patroni asks for loop_wait + 2 * retry_timeout <= ttl; 0 s for a start: a leader that dies is replaced.
PATRONI = {"ttl": 20, "loop_wait": 2, "retry_timeout": 5, "primary_start_timeout": 0, "synchronous_mode": True}
SETTINGS = {**DURABLE, "shared_buffers": "32MB", "wal_keep_size": "128MB", "dynamic_shared_memory_type": "mmap"}
HAPROXY = """
global
    maxconn 1000
    hard-stop-after 30s
defaults
    mode tcp
    retries 0
    timeout connect 1s
    timeout client 30m
    timeout server 30m
    timeout check 500ms
listen primary
    bind {host}:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
"""
BACKEND = "    server {name} {host}:{port} check port {rest_port}\n"


class PatroniCluster:
    """Nodes of which one is a synchronous standby, and HAProxy in front, from entering the block until leaving it."""

    def __init__(self, nodes: int = 3) -> None:
        self._count = nodes
        self._password = secrets.token_urlsafe(16)
        self._haproxy_port = free_port()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.folder = opened.enter_context(_folder(_runs_as(), IN_MEMORY))
            etcd_port = self._start_etcd(opened)
            local = {"use_pg_rewind": True, "use_slots": True, "parameters": SETTINGS}
            initdb = [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "scram-sha-256"}]
            bootstrap = {"dcs": {**PATRONI, "postgresql": local}, "initdb": initdb}
            names = [f"node{number}" for number in range(1, self._count + 1)]
            self.nodes = [Node(self.folder, name, bootstrap, self._password, etcd_port) for name in names]
            self._asked = opened.enter_context(ThreadPoolExecutor(1))
            for node in self.nodes:
                node.start()
                opened.callback(node.stop)
            self._start_haproxy(opened)
            self.settle()
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def url(self, *nodes: Node) -> str:
        """Return the address of the database on one or several nodes, or through HAProxy."""
        hosts = [f"{HOST}:{node.port}" for node in nodes] or [f"{HOST}:{self._haproxy_port}"]
        url = URL.create("postgresql+asyncpg", SUPERUSER, self._password, "hosts", database="postgres")
        return url.render_as_string(hide_password=False).replace("hosts", ",".join(hosts))

    def leader(self, *without: Node) -> Leader | None:
        """Return what Patroni says is the primary; nodes that are frozen would not respond."""
        return next(filter(None, [node.leader() for node in self.nodes if node not in without]), None)

    def settle(self) -> Leader:
        """Wait until there are a leader, a synchronous standby, and nothing but running nodes; return the leader."""
        wait_until(self._is_whole, STARTED_S_MAX)
        return self.found()

    def found(self) -> Leader:
        """Wait until there is a leader, and return it."""
        while (leader := self.leader()) is None:
            wait_until(self.leader)
        return leader

    def switch_over(self, leader: Leader) -> "Future[httpx.Response]":
        """Ask a leader to give way to another node; the response comes when it has, or cannot."""
        return self._asked.submit(leader.node.ask, "POST", "/switchover", {"leader": leader.node.name}, STARTED_S_MAX)

    def reload(self) -> None:
        """Let HAProxy replace its process, as systemd does; the one before keeps its connections for a while."""
        self._haproxy.process.send_signal(signal.SIGUSR2)

    def _is_whole(self) -> bool:
        with suppress(httpx.TransportError, ValueError, KeyError):
            members = self.nodes[0].ask("GET", "/cluster").json()["members"]
            roles = sorted(member["role"] for member in members if member["state"] == "running")
            timelines = {member["timeline"] for member in members}
            return roles == ["leader", *["replica"] * (self._count - 2), "sync_standby"] and len(timelines) == 1
        return False

    def _start_etcd(self, opened: ExitStack) -> int:
        port, peer = free_port(), free_port()
        client_url, peer_url = f"http://{HOST}:{port}", f"http://{HOST}:{peer}"
        command = ["etcd", "--enable-v2=true", "--data-dir", str(self.folder / "etcd")]
        command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        command += ["--initial-cluster", f"default={peer_url}"]
        etcd = Program(self.folder, "etcd", command)
        opened.callback(etcd.stop)
        wait_until(lambda: "ready to serve client requests" in etcd.log)
        return port

    def _start_haproxy(self, opened: ExitStack) -> None:
        path = self.folder / "haproxy.cfg"
        text = HAPROXY.format(host=HOST, port=self._haproxy_port)
        for node in self.nodes:
            text += BACKEND.format(name=node, host=HOST, port=node.port, rest_port=node.rest_port)
        path.write_text(text)
        _give(path, _runs_as())
        self._haproxy = Program(self.folder, "haproxy", ["haproxy", "-W", "-db", "-f", path])
        opened.callback(self._haproxy.stop)
