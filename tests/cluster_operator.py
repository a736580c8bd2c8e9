"""A stand-in for the Flux Operator and all that is behind it: scheduler, Job controller, kubelet.

It plays the life of pods through the real API: names, labels, conditions, states of containers and
events are those that Kubernetes writes. The command of the first pod can be run for real, under
``flux start``; its log is served as a kubelet does, for the API server to fetch.
"""

from __future__ import annotations

import os
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cluster_support import ApiServer
from kubernetes import client

GROUP = ("flux-framework.org", "v1alpha2")
NODES = 4
UNSCHEDULABLE = "0/3 nodes are available: 3 Insufficient cpu."
QUOTA = 'Error creating: pods "{0}-1-bcdef" is forbidden: exceeded quota: pods=1'
MEMORY = "The node was low on resource: memory."
NO_IMAGE = 'rpc error: code = NotFound desc = failed to pull image "nowhere/nothing": not found'


class Operator:
    """The stand-in; `script` says what happens to MiniClusters from now on.

    Parameters
    ----------
    server : ApiServer
        With the CRD.
    folder : Path
        For logs.

    Attributes
    ----------
    script : str
        "runs": the command of the first pod is run under ``flux start``; "says": the log is `text`;
        "fails": the same, and exit code 1; "never" ends; "unschedulable", "no-image", "one-node",
        "quota"; "idle" makes no pods; and after a while of running, "vanishes", "replaced",
        "evicted" (the first pod), "out-of-memory" (the last one).
    text : str
        What the first pod writes, if its command is not run.
    broken : int
        How many times kubelet cannot give a log from now on.
    """

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.script = "runs"
        self.text = ""
        self.broken = 0
        self.seen: list[dict[str, Any]] = []
        self._api = server.api()
        self._core = client.CoreV1Api(self._api)
        self._custom = client.CustomObjectsApi(self._api)
        self._known: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._said = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Operator:
        self._kubelet = _kubelet(self)
        for rank in range(NODES):
            self._make_node(f"node-{rank}", self._kubelet.server_address[1])
        for target in (self._kubelet.serve_forever, self._work):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._kubelet.shutdown()
        self._kubelet.server_close()
        for thread in self._threads:
            thread.join()
        for name in list(self._processes):
            self._kill(name)

    def _make_node(self, name: str, port: int) -> None:
        with suppress(client.exceptions.ApiException):
            self._core.delete_node(name)
        self._core.create_node({"metadata": {"name": name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        self._core.patch_node_status(name, {"status": status})

    def _work(self) -> None:
        while not self._stop.wait(0.1):
            found = self._custom.list_cluster_custom_object(*GROUP, "miniclusters")
            # the operator does not look whether one is being deleted: it would make its pods anew
            items = {item["metadata"]["uid"]: item for item in found["items"]}
            for uid in items.keys() - self._known.keys():
                self._known[uid] = items[uid]
                self.seen.append(items[uid])
                self._begin(items[uid])
            for uid in self._known.keys() - items.keys():
                self._remove(self._known.pop(uid))

    def _begin(self, item: dict[str, Any]) -> None:
        if self.script == "idle":
            return
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        count = 1 if self.script == "quota" else item["spec"]["size"]
        pods = [f"{name}-{rank}-abcde" for rank in range(count)]
        for rank, pod in enumerate(pods):
            self._make_pod(item, rank, pod)
        if self.script == "unschedulable":
            for pod in pods:
                self._status(namespace, pod, "Pending", scheduled=False)
                self._event(namespace, pod, "FailedScheduling", UNSCHEDULABLE)
        elif self.script == "no-image":
            for pod in pods:
                waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
                self._status(namespace, pod, "Pending", {"waiting": waiting})
                self._event(namespace, pod, "Failed", f"Failed to pull image: {NO_IMAGE}")
                self._event(namespace, pod, "Failed", "Error: ErrImagePull")
                self._event(namespace, pod, "BackOff", "Back-off pulling image", "Normal")
                self._event(namespace, pod, "Failed", "Error: ImagePullBackOff")
        elif self.script == "quota":
            self._status(namespace, pods[0], "Running", {"running": {}})
            self._event(namespace, name, "FailedCreate", QUOTA.format(name), kind="Job")
        else:
            for pod in pods:
                self._status(namespace, pod, "Running", {"running": {}})
            threading.Thread(target=self._play, args=(self.script, item, pods)).start()

    def _play(self, script: str, item: dict[str, Any], pods: list[str]) -> None:
        namespace = item["metadata"]["namespace"]
        log = self.folder / pods[0]
        code = 0
        if script in ("vanishes", "replaced", "evicted", "out-of-memory"):
            time.sleep(2.5)  # it is to be seen that they run
            self._disturb(script, item, pods)
            return
        if script in ("never", "one-node"):
            log.write_text("still at work\n")
            return
        if script == "runs":
            code = self._run(item, log)
        else:
            log.write_text(self.text)
            code = 1 if script == "fails" else 0
        with suppress(client.exceptions.ApiException):  # it may have been removed
            for pod in pods:
                phase = "Failed" if code else "Succeeded"
                self._status(namespace, pod, phase, {"terminated": {"exitCode": code}})

    def _disturb(self, script: str, item: dict[str, Any], pods: list[str]) -> None:
        namespace = item["metadata"]["namespace"]
        if script == "evicted":
            self._core.patch_namespaced_pod_status(
                pods[0],
                namespace,
                {"status": {"phase": "Failed", "reason": "Evicted", "message": MEMORY}},
            )
        elif script == "out-of-memory":
            killed = {"exitCode": 137, "reason": "OOMKilled"}
            self._status(namespace, pods[-1], "Failed", {"terminated": killed})
        else:
            for pod in pods:
                self._core.delete_namespaced_pod(pod, namespace, grace_period_seconds=0)
        if script == "replaced":
            for rank in range(len(pods)):
                pod = f"{item['metadata']['name']}-{rank}-bcdef"
                self._make_pod(item, rank, pod)
                self._status(namespace, pod, "Running", {"running": {}})

    def _run(self, item: dict[str, Any], log: Path) -> int:
        """Run the command of the first pod as the operator's entrypoint does."""
        container, flux = item["spec"]["containers"][0], item["spec"]["flux"]
        words = shlex.split(container["command"])
        command = [sys.executable if word == "python3" else word for word in words]
        brokers = ["flux", "start", f"--test-size={item['spec']['size']}"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*brokers, f"-Stbon.topo={flux['topology']}", *command],
                env={**os.environ, **container.get("environment", {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._processes[item["metadata"]["name"]] = process
        return process.wait()

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _remove(self, item: dict[str, Any]) -> None:
        """Remove what belonged to a MiniCluster that is gone, as the garbage collector does."""
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        self._kill(name)
        for pod in self._core.list_namespaced_pod(
            namespace, label_selector=f"job-name={name}"
        ).items:
            with suppress(client.exceptions.ApiException):
                self._core.delete_namespaced_pod(
                    pod.metadata.name, namespace, grace_period_seconds=0
                )

    def _make_pod(self, item: dict[str, Any], rank: int, pod: str) -> None:
        name, container = item["metadata"]["name"], item["spec"]["containers"][0]
        spec: dict[str, Any] = {"containers": [{"name": name, "image": container["image"]}]}
        if self.script != "unschedulable":
            spec["nodeName"] = f"node-{0 if self.script == 'one-node' else rank % NODES}"
        labels = {**item["spec"].get("pod", {}).get("labels", {}), "job-name": name}
        index = {"batch.kubernetes.io/job-completion-index": str(rank)}
        metadata = {"name": pod, "labels": labels, "annotations": index}
        self._core.create_namespaced_pod(
            item["metadata"]["namespace"], {"metadata": metadata, "spec": spec}
        )

    def _status(
        self,
        namespace: str,
        pod: str,
        phase: str,
        state: dict[str, Any] | None = None,
        scheduled: bool = True,
    ) -> None:
        condition = {"type": "PodScheduled", "status": str(scheduled)}
        if not scheduled:
            condition.update(reason="Unschedulable", message=UNSCHEDULABLE)
        status: dict[str, Any] = {"phase": phase, "conditions": [condition]}
        if state is not None:
            found = self._core.read_namespaced_pod(pod, namespace).spec.containers[0]
            one = {"name": found.name, "image": found.image, "imageID": "", "restartCount": 0}
            status["containerStatuses"] = [{**one, "ready": "running" in state, "state": state}]
        self._core.patch_namespaced_pod_status(pod, namespace, {"status": status})

    def _event(
        self,
        namespace: str,
        name: str,
        reason: str,
        message: str,
        severity: str = "Warning",
        kind: str = "Pod",
    ) -> None:
        self._said += 1  # no two in one second, as what is said last is looked for
        when = time.gmtime(time.time() + self._said)
        self._core.create_namespaced_event(
            namespace,
            {
                "metadata": {"generateName": f"{name}."},
                "involvedObject": {"kind": kind, "name": name, "namespace": namespace},
                "type": severity,
                "reason": reason,
                "message": message,
                "lastTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", when),
            },
        )


def _kubelet(operator: Operator) -> ThreadingHTTPServer:
    """Serve the logs in a folder as ``/containerLogs/NAMESPACE/POD/CONTAINER``."""
    folder, server = operator.folder, operator.server

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].split("/")
            log = folder / parts[3] if len(parts) == 5 else folder / "none"
            found = parts[1] == "containerLogs" and log.exists()
            # as of a terminal, which the operator gives to each container
            body = log.read_bytes().replace(b"\n", b"\r\n") if found else b"no log"
            status = 200 if found else 404
            if operator.broken > 0:
                operator.broken -= 1
                status, body = 500, b"no disk"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    return httpd
