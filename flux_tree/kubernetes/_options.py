"""Where in a cluster something runs, and as what: the options of whoever asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import UsageError
from ._minicluster import NAME_MAX

__all__ = ["ClusterOptions"]

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
#: What follows a prefix: a dash and a part that no two cells share.
SUFFIX = 13


@dataclass(frozen=True)
class ClusterOptions:
    """Where in a cluster MiniClusters are made, and of what.

    Parameters
    ----------
    image : str, default "flux-tree:latest"
        Of the pods; it has Flux and flux-tree.
    name : str, default "flux-tree"
        How the names of the MiniClusters begin.
    namespace : str, optional
        That of the context, if not given.
    pull_policy : {"Always", "IfNotPresent", "Never"}, optional
        ``IfNotPresent``, which is the operator's own choice, if not given.
    pull_secret : str, optional
        The secret with the login for the image, where the nodes have none.
    context, kubeconfig : str, optional
        As of ``kubectl``.
    node_selector : mapping of str to str
        Labels that the nodes must have.
    pending_limit : float, default 30
        Seconds that a pod may find no node, or a container not begin, before that is a failure:
        more, where nodes come only when they are asked for.
    share_nodes : bool, default False
        Let several pods share a node, for a trial on a small cluster. Such a cell fails otherwise.
    view : bool, default False
        The image has no Flux of its own, the operator's view is used.
    run_id : str, default "run"
        A label of all that a run makes.

    Raises
    ------
    UsageError
        If one makes no sense.
    """

    image: str = "flux-tree:latest"
    name: str = "flux-tree"
    namespace: str | None = None
    pull_policy: str | None = None
    pull_secret: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    pending_limit: float = 30.0
    share_nodes: bool = False
    view: bool = False
    run_id: str = "run"

    def __post_init__(self) -> None:
        if not self.image or any(c.isspace() for c in self.image):
            raise UsageError(f"image '{self.image}': give the name of an image, as to docker")
        longest = NAME_MAX - SUFFIX
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", self.name) or len(self.name) > longest:
            raise UsageError(
                f"name '{self.name}': give small letters, digits and dashes, a letter first, at"
                f" most {longest}"
            )
        if self.namespace is not None and not _LABEL.fullmatch(self.namespace):
            raise UsageError(f"namespace '{self.namespace}': no name of one, see 'kubectl get ns'")
        if self.pull_policy is not None and self.pull_policy not in PULL_POLICIES:
            raise UsageError(
                f"pull policy '{self.pull_policy}': must be one of {', '.join(PULL_POLICIES)}"
            )
        if self.pull_secret is not None and not _SECRET.fullmatch(self.pull_secret):
            raise UsageError(
                f"pull secret '{self.pull_secret}': no name of one, see 'kubectl get secrets'"
            )
        if not self.pending_limit > 0:
            raise UsageError(f"pending limit {self.pending_limit!r}: must be above 0 seconds")
