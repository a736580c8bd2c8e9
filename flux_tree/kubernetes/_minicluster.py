"""The kind MiniCluster of the Flux Operator, v1alpha2: as much of it as flux-tree uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ..errors import UsageError

__all__ = [
    "API_VERSION",
    "FIELDS",
    "KIND",
    "NAME_MAX",
    "Commands",
    "Container",
    "FluxOptions",
    "FluxView",
    "Logging",
    "MiniCluster",
    "Network",
    "Pod",
    "Volume",
    "unknown_fields",
]

GROUP = "flux-framework.org"
VERSION = "v1alpha2"
PLURAL = "miniclusters"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "MiniCluster"

#: A pod's host is called NAME-RANK, and is one label of a name in DNS. The Job adds six letters.
NAME_MAX = 50
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")

#: The fields that the examples and the experiments use, "*" for names of one's own: a guard where
#: the CRD itself is not at hand. Read off the operator's api/v1alpha2/minicluster_types.go.
FIELDS: dict[str, Any] = {
    "size": int,
    "tasks": int,
    "interactive": bool,
    "cleanup": bool,
    "deadlineSeconds": int,
    "jobLabels": {"*": str},
    "logging": {"quiet": bool, "strict": bool, "debug": bool, "timed": bool, "zeromq": bool},
    "network": {"headlessName": str, "disableAffinity": bool},
    "flux": {
        "optionFlags": str,
        "topology": str,
        "logLevel": int,
        "connectTimeout": str,
        "completeWorkers": bool,
        "noWaitSocket": bool,
        "environment": {"*": str},
        "scheduler": {"simple": bool, "queuePolicy": str},
        "container": {"disable": bool, "image": str, "pullAlways": bool, "mountPath": str},
    },
    "pod": {
        "labels": {"*": str},
        "annotations": {"*": str},
        "nodeSelector": {"*": str},
        "serviceAccountName": str,
        "restartPolicy": str,
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
    },
    "containers": [
        {
            "image": str,
            "name": str,
            "command": str,
            "workingDir": str,
            "imagePullPolicy": str,
            "imagePullSecret": str,
            "pullAlways": bool,
            "launcher": bool,
            "batch": bool,
            "runFlux": bool,
            "noWrapEntrypoint": bool,
            "logs": str,
            "ports": [int],
            "environment": {"*": str},
            "secrets": {"*": {"name": str, "key": str}},
            "commands": {
                "init": str,
                "pre": str,
                "post": str,
                "brokerPre": str,
                "workerPre": str,
                "script": str,
                "prefix": str,
            },
            "volumes": {
                "*": {
                    "path": str,
                    "hostPath": str,
                    "emptyDir": bool,
                    "emptyDirMedium": str,
                    "emptyDirSizeLimit": str,
                    "claimName": str,
                    "configMapName": str,
                    "items": {"*": str},
                    "secretName": str,
                    "readOnly": bool,
                }
            },
            "resources": {
                "limits": {"*": (str, int)},
                "requests": {"*": (str, int)},
            },
            "securityContext": {"privileged": bool, "capabilities": {"add": [str]}},
        }
    ],
}


@dataclass(frozen=True)
class Volume:
    """Where a container sees a volume, and what that is: one of the rest.

    The operator mounts an `empty_dir` at ``/dev/shm``, whatever `path` says; `empty_dir_medium` is
    "memory", or has no effect. The folder `host_path` has to exist.
    """

    path: str
    host_path: str | None = None
    empty_dir: bool | None = None
    empty_dir_medium: str | None = None
    empty_dir_size_limit: str | None = None
    claim_name: str | None = None
    secret_name: str | None = None
    read_only: bool | None = None


@dataclass(frozen=True)
class Commands:
    """Shell lines around the brokers: on every rank, or (`broker_pre`) on rank 0 only."""

    init: str | None = None
    pre: str | None = None
    post: str | None = None
    broker_pre: str | None = None
    worker_pre: str | None = None


@dataclass(frozen=True)
class Container:
    """The application's container; `launcher` says that its command makes jobs by itself."""

    image: str
    command: str
    launcher: bool | None = None
    working_dir: str | None = None
    image_pull_policy: str | None = None
    image_pull_secret: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Commands | None = None
    volumes: Mapping[str, Volume] = field(default_factory=dict)


@dataclass(frozen=True)
class FluxView:
    """Flux as the operator brings it along; `disable` where the application's image has its own."""

    disable: bool | None = None
    image: str | None = None


@dataclass(frozen=True)
class FluxOptions:
    """Of the brokers: the TBON's topology, and what goes to ``flux submit``."""

    topology: str | None = None
    option_flags: str | None = None
    connect_timeout: str | None = None
    complete_workers: bool | None = None
    container: FluxView | None = None


@dataclass(frozen=True)
class Logging:
    """What the entrypoint prints."""

    quiet: bool | None = None
    strict: bool | None = None


@dataclass(frozen=True)
class Network:
    """Of the pods; without `disable_affinity` the operator prefers a node of its own for each."""

    disable_affinity: bool | None = None


@dataclass(frozen=True)
class Pod:
    """Of each pod."""

    labels: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    service_account_name: str | None = None
    restart_policy: str | None = None


@dataclass(frozen=True)
class MiniCluster:
    """A MiniCluster.

    Parameters
    ----------
    name : str
        Letters, digits and dashes, at most 50.
    size : int
        Pods, each a broker.
    container : Container
        What runs in them.
    namespace, labels : optional
        Of the object.
    flux, logging, network, pod, deadline_seconds, tasks : optional
        As of the operator.

    Raises
    ------
    UsageError
        If the name cannot be one.
    """

    name: str
    size: int
    container: Container
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    flux: FluxOptions | None = None
    logging: Logging | None = None
    network: Network | None = None
    pod: Pod | None = None
    deadline_seconds: int | None = None
    tasks: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > NAME_MAX:
            raise UsageError(
                f"name '{self.name}': of a MiniCluster, so give small letters, digits and dashes,"
                f" a letter first, at most {NAME_MAX}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest.

        Returns
        -------
        dict
            As it goes to the API, or into a file.
        """
        metadata: dict[str, Any] = {"name": self.name}
        if self.namespace is not None:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = dict(self.labels)
        spec = {
            "size": self.size,
            "tasks": self.tasks,
            "deadlineSeconds": self.deadline_seconds,
            "logging": self.logging,
            "network": self.network,
            "flux": self.flux,
            "pod": self.pod,
            "containers": [self.container],
        }
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata,
            "spec": {key: _plain(value) for key, value in spec.items() if value is not None},
        }


def _plain(value: Any) -> Any:
    """Return a value in types that YAML has; what was not given is left out."""
    if is_dataclass(value):
        found = {}
        for item in fields(value):
            part = getattr(value, item.name)
            if part is not None and not (isinstance(part, Mapping) and not part):
                found[_camel(item.name)] = _plain(part)
        return found
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def unknown_fields(manifest: Mapping[str, Any]) -> list[str]:
    """Return what in a manifest is not in `FIELDS`, or of another type.

    Parameters
    ----------
    manifest : mapping
        Of a MiniCluster.

    Returns
    -------
    list of str
        Paths, such as ``spec.flux.topolgy``; none if all is well.
    """
    found = [key for key in manifest if key not in ("apiVersion", "kind", "metadata", "spec")]
    if manifest.get("apiVersion") != API_VERSION:
        found.append("apiVersion")
    if manifest.get("kind") != KIND:
        found.append("kind")
    return found + _unknown(manifest.get("spec"), FIELDS, "spec")


def _unknown(value: Any, known: Any, path: str) -> list[str]:
    if isinstance(known, list):
        if not isinstance(value, list):
            return [path]
        return [x for i, v in enumerate(value) for x in _unknown(v, known[0], f"{path}[{i}]")]
    if not isinstance(known, dict):
        right = isinstance(value, known) and (known is not int or not isinstance(value, bool))
        return [] if right else [path]
    if not isinstance(value, Mapping):
        return [path]
    found = []
    for key, part in value.items():
        if key in known or "*" in known:
            found += _unknown(part, known.get(key, known.get("*")), f"{path}.{key}")
        else:
            found.append(f"{path}.{key}")
    return found
