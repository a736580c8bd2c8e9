"""A real API server on the loopback interface: etcd and kube-apiserver, with no kubelet behind.

Both are looked for on PATH and in the folder FLUX_TREE_KUBE_BIN, the operator's CRD in the file
FLUX_TREE_CRD: see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

PROGRAMS = ("etcd", "kube-apiserver")


def find_program(name: str) -> str | None:
    folder = os.environ.get("FLUX_TREE_KUBE_BIN")
    return shutil.which(name) or (shutil.which(name, path=folder) if folder else None)


def missing() -> str | None:
    """Return why there can be no cluster; None if there can."""
    for name in PROGRAMS:
        if find_program(name) is None:
            return f"{name} is neither on PATH nor in FLUX_TREE_KUBE_BIN"
    crd = os.environ.get("FLUX_TREE_CRD")
    if not crd or not Path(crd).exists():
        return "FLUX_TREE_CRD does not name the file of the MiniCluster CRD"
    try:
        import kubernetes  # noqa: F401
    except ImportError:
        return "the kubernetes client is not installed: pip install 'flux-tree[kubernetes]'"
    return None


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [s.getsockname()[1] for s in sockets]


class ApiServer:
    """A cluster that has an API and no nodes.

    Attributes
    ----------
    folder : Path
        With all of its files.
    kubeconfig, guest : Path
        Of who may do all, and of who may do nothing.
    url : str
        Of its API.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.guest = folder / "guest"
        self.url = ""
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"

    def api(self) -> Any:
        """Return a client."""
        from kubernetes import client, config

        configuration = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=configuration)
        return client.ApiClient(configuration)

    @contextmanager
    def run(self) -> Iterator[ApiServer]:
        """Start it, and end it."""
        tokens = {who: secrets.token_hex(16) for who in ("admin", "guest")}
        self._write_keys(tokens)
        peer, store, port = free_ports(3)
        self.url = f"https://127.0.0.1:{port}"
        self._write_kubeconfig(self.kubeconfig, tokens["admin"])
        self._write_kubeconfig(self.guest, tokens["guest"])
        etcd = [
            *(str(find_program("etcd")), "--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", f"http://127.0.0.1:{store}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{store}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}", "--unsafe-no-fsync"),
        ]
        server = [
            *(str(find_program("kube-apiserver")), "--bind-address=127.0.0.1"),
            *(f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={port}"),
            *(f"--tls-cert-file={self.certificate}", f"--tls-private-key-file={self.key}"),
            *(f"--token-auth-file={self.folder}/tokens", "--authorization-mode=RBAC"),
            *(
                "--service-account-issuer=https://localhost",
                "--service-cluster-ip-range=10.0.0.0/24",
            ),
            f"--service-account-key-file={self.folder}/account.key",
            f"--service-account-signing-key-file={self.folder}/account.key",
            # there are no controllers that would make the accounts
            "--disable-admission-plugins=ServiceAccount",
            "--kubelet-preferred-address-types=InternalIP",
        ]
        with ExitStack() as stack:
            for command in (etcd, server):
                stack.enter_context(self._process(command))
            self._wait(tokens["admin"])
            yield self

    @contextmanager
    def _process(self, command: list[str]) -> Iterator[None]:
        with (self.folder / f"{Path(command[0]).name}.log").open("wb") as log:
            # it ends with this process, however that ends
            bound = ["setpriv", "--pdeathsig", "KILL", *command]
            process = subprocess.Popen(bound, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _write_keys(self, tokens: dict[str, str]) -> None:
        lines = [f"{tokens['admin']},admin,admin,system:masters", f"{tokens['guest']},guest,guest,"]
        (self.folder / "tokens").write_text("\n".join(lines) + "\n")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        keys = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run([*command, *keys], check=True, capture_output=True)
        account = ["openssl", "genrsa", "-out", str(self.folder / "account.key"), "2048"]
        subprocess.run(account, check=True, capture_output=True)

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        context = {"cluster": "c", "user": "u", "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": context}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))

    def _wait(self, token: str) -> None:
        import urllib3
        import urllib3.exceptions

        http = urllib3.PoolManager(ca_certs=str(self.certificate), retries=False)
        deadline = time.monotonic() + 60
        while True:
            try:
                headers = {"Authorization": f"Bearer {token}"}
                if http.request("GET", f"{self.url}/readyz", headers=headers).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            log = self.folder / "kube-apiserver.log"
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def install_crd(self) -> None:
        """Make the kind MiniCluster known, and wait until it is."""
        from kubernetes import client

        api = self.api()
        crd = yaml.safe_load(Path(os.environ["FLUX_TREE_CRD"]).read_text())
        client.ApiextensionsV1Api(api).create_custom_resource_definition(crd)
        custom = client.CustomObjectsApi(api)
        deadline = time.monotonic() + 20
        while True:
            try:
                custom.list_cluster_custom_object(
                    "flux-framework.org", "v1alpha2", "miniclusters", limit=1
                )
                return
            except client.exceptions.ApiException:
                assert time.monotonic() < deadline
                time.sleep(0.1)
