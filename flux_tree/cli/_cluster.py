"""The options of ``flux-tree experiment run`` that are about a cluster of Kubernetes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..experiment import Design

__all__ = ["cluster_options", "take_options", "with_overrides"]

_OPTIONS = (
    click.option("--image", metavar="IMAGE", help="Kubernetes: of the pods, with Flux and"
                 " flux-tree.  [default: flux-tree:latest]"),
    click.option("--namespace", metavar="NAME", help="Kubernetes: where.  [default: the"
                 " context's]"),
    click.option("--name", metavar="NAME", help="Kubernetes: how names of MiniClusters begin."
                 "  [default: flux-tree]"),
    click.option(
        "--pull-policy",
        type=click.Choice(("Always", "IfNotPresent", "Never")),
        help="Kubernetes: of the image.  [default: IfNotPresent]",
    ),
    click.option(
        "--pull-secret", metavar="NAME", help="Kubernetes: the secret with the image's login."
    ),
    click.option("--context", metavar="NAME", help="Kubernetes: of the kubeconfig."),
    click.option(
        "--kubeconfig", metavar="FILE", type=click.Path(), help="Kubernetes: which cluster."
        "  [default: KUBECONFIG, or ~/.kube/config]"
    ),
    click.option(
        "--node-selector",
        metavar="LABEL=VALUE",
        multiple=True,
        help="Kubernetes: nodes that pods may run on; may be given again.",
    ),
    click.option(
        "--pending-limit",
        metavar="TIME",
        help="Kubernetes: how long a pod may find no node, or no image.  [default: 30s]",
    ),
    click.option(
        "--share-nodes", is_flag=True, help="Kubernetes: several pods may share a node."
    ),
    click.option(
        "--view", is_flag=True, help="Kubernetes: the image has no Flux, the operator brings it."
    ),
)  # fmt: skip


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command.

    Parameters
    ----------
    function : callable
        Of a command.

    Returns
    -------
    callable
    """
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_options(design: Design, values: dict[str, Any]) -> Any:
    """Return the options of a cluster; None if the design needs none.

    Parameters
    ----------
    design : Design
        What is run.
    values : dict
        The options of `cluster_options`.

    Returns
    -------
    ClusterOptions or None

    Raises
    ------
    UsageError
        If one makes no sense, or there are some and no cluster.
    """
    from ..units import parse_seconds

    given = {name: value for name, value in values.items() if value}
    if "kubernetes" not in design.backends:
        if given:
            option = f"--{next(iter(given)).replace('_', '-')}"
            raise UsageError(f"{option}: of backend kubernetes only, add --backend kubernetes")
        return None
    from ..kubernetes import ClusterOptions

    if "node_selector" in given:
        given["node_selector"] = dict(map(_label, given["node_selector"]))
    if "pending_limit" in given:
        given["pending_limit"] = parse_seconds(given["pending_limit"])
    return ClusterOptions(**given)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"node selector '{text}': give LABEL=VALUE")
    return name, value


def with_overrides(design: Design, **values: Any) -> Design:
    """Return a design with what the command line says instead.

    Parameters
    ----------
    design : Design
        Of a file.
    **values
        Keys of it, None for those that stay.

    Returns
    -------
    Design

    Raises
    ------
    UsageError
        If a value makes no sense.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return replace(design, **given) if given else design
