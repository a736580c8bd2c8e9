"""A cluster of Kubernetes, through its official client: what flux-tree asks of it, and its errors.

What is asked is asked again every second. A watch would hear of it a little earlier, but breaks off
now and then, and must then list everything all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import FluxTreeError, UsageError
from ._minicluster import GROUP, PLURAL, VERSION, MiniCluster
from ._pods import one_line, rank_of, telling

__all__ = ["MANAGER", "RUN_LABEL", "Cluster", "ClusterError", "Unreachable"]

MANAGER = {"app.kubernetes.io/managed-by": "flux-tree"}
RUN_LABEL = "flux-tree/run"
REQUEST_S = 10.0
POLL_S = 0.5

#: What has to be allowed: verb, group, resource, subresource.
RIGHTS = (
    ("create", GROUP, PLURAL, ""),
    ("delete", GROUP, PLURAL, ""),
    ("list", "", "pods", ""),
    ("get", "", "pods", "log"),
)


class ClusterError(FluxTreeError):
    """The cluster refuses something, cannot be reached, or cannot do it."""


class Cluster:
    """A cluster.

    Parameters
    ----------
    kubeconfig, context : str, optional
        As of ``kubectl``; inside a pod its service account, if there is no kubeconfig.
    namespace : str, optional
        That of the context, if not given.

    Raises
    ------
    UsageError
        If there is no such cluster in the configuration, or no client for one.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
    ) -> None:
        kubernetes = _kubernetes()
        configuration = kubernetes.client.Configuration()
        default = _load(kubernetes, configuration, kubeconfig, context)
        configuration.retries = 1
        api = kubernetes.client.ApiClient(configuration)
        self.namespace: str = namespace or default
        self.host: str = configuration.host
        self._exception = kubernetes.client.exceptions.ApiException
        self._custom = kubernetes.client.CustomObjectsApi(api)
        self._core = kubernetes.client.CoreV1Api(api)
        self._rights = kubernetes.client.AuthorizationV1Api(api)
        self._client = kubernetes.client

    def check(self) -> None:
        """Find out whether MiniClusters can be run here.

        Raises
        ------
        ClusterError
            If not, with the mend.
        """
        with self._asking("its MiniClusters cannot be listed", of_kind=True):
            self._custom.list_namespaced_custom_object(*self._place, limit=1, **_LIMIT)
        try:
            with self._asking(f"namespace '{self.namespace}': cannot be looked up"):
                self._core.read_namespace(self.namespace, **_LIMIT)
        except _Missing:
            raise ClusterError(
                f"namespace '{self.namespace}': there is none in {self.host}: make it with"
                f" 'kubectl create namespace {self.namespace}'"
            ) from None
        except Unreachable:
            raise
        except ClusterError:  # not everybody may look
            pass
        for right in RIGHTS:
            self._check_right(*right)

    def create(self, minicluster: MiniCluster) -> None:
        """Make a MiniCluster.

        Parameters
        ----------
        minicluster : MiniCluster
            What is made, in the namespace of the cluster.

        Raises
        ------
        ClusterError
            If it is refused.
        """
        with self._asking(f"MiniCluster {minicluster.name}: cannot be made", of_kind=True):
            self._custom.create_namespaced_custom_object(
                *self._place, minicluster.to_dict(), field_validation="Strict", **_LIMIT
            )

    def names(self, run_id: str) -> list[str]:
        """Return the MiniClusters that a run has made.

        Parameters
        ----------
        run_id : str
            Its label.

        Returns
        -------
        list of str
        """
        selector = ",".join(f"{k}={v}" for k, v in {**MANAGER, RUN_LABEL: run_id}.items())
        with self._asking("its MiniClusters cannot be listed", of_kind=True):
            found = self._custom.list_namespaced_custom_object(
                *self._place, label_selector=selector, **_LIMIT
            )
        return [item["metadata"]["name"] for item in found["items"]]

    def delete(self, name: str, limit: float) -> None:
        """Remove a MiniCluster, and wait until it and its pods have gone.

        Parameters
        ----------
        name : str
            Its name.
        limit : float
            Seconds.

        Raises
        ------
        ClusterError
            If it is still there after that, with what to do.
        """
        deadline = time.monotonic() + limit
        mend = f"kubectl delete -n {self.namespace} minicluster {name}"
        while True:
            try:
                if self._gone(name, mend) and not self.pods(name):
                    return
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"MiniCluster {name}: it or its pods are still there after {limit:.0f} seconds:"
                    f" see 'kubectl get -n {self.namespace} pods -l job-name={name}', and remove"
                    f" it with '{mend}'"
                )
            time.sleep(POLL_S)

    def _gone(self, name: str, mend: str) -> bool:
        """Ask for a MiniCluster's removal; return whether there is none any more."""
        what = f"MiniCluster {name}: cannot be removed; do so with '{mend}'"
        try:
            # the operator would make anew what goes before the MiniCluster does
            with self._asking(what, of_kind=True):
                self._custom.delete_namespaced_custom_object(
                    *self._place, name, propagation_policy="Background", **_LIMIT
                )
        except _Missing:
            return True
        return False

    def pods(self, name: str) -> list[Any]:
        """Return the pods of a MiniCluster.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        list of V1Pod
            By rank.
        """
        with self._asking(f"MiniCluster {name}: its pods cannot be listed"):
            found = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"job-name={name}", **_LIMIT
            )
        return sorted(found.items, key=lambda pod: rank_of(pod, name))

    def log(self, pod: Any, container: str) -> str:
        """Return what a container has written so far.

        Parameters
        ----------
        pod : V1Pod
            Of a MiniCluster.
        container : str
            Of the pod.

        Returns
        -------
        str
        """
        name = pod.metadata.name
        with self._asking(f"pod {name}: its log cannot be read"):
            # not as text: the client would take what looks like JSON for a value
            response = self._core.read_namespaced_pod_log(
                name,
                self.namespace,
                container=container,
                _preload_content=False,
                **_LIMIT,
            )
            return bytes(response.data).decode(errors="replace")

    def last_event(self, name: str) -> str | None:
        """Return what was said last of something that went wrong.

        Parameters
        ----------
        name : str
            Of a pod, a Job or a MiniCluster.

        Returns
        -------
        str or None
            None if nothing did, or who asks may not see it.
        """
        try:
            with self._asking(f"{name}: its events cannot be listed"):
                found = self._core.list_namespaced_event(
                    self.namespace, field_selector=f"involvedObject.name={name}", **_LIMIT
                )
        except ClusterError:  # that would hide what they are to explain
            return None
        return telling(found.items)

    @property
    def _place(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _check_right(self, verb: str, group: str, resource: str, subresource: str) -> None:
        asked = self._client.V1ResourceAttributes(
            namespace=self.namespace,
            verb=verb,
            group=group,
            resource=resource,
            subresource=subresource or None,
        )
        review = self._client.V1SelfSubjectAccessReview(
            spec=self._client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
        )
        with self._asking("its rules cannot be asked"):
            answer = self._rights.create_self_subject_access_review(review, **_LIMIT)
        if not answer.status.allowed:
            what = f"{resource}/{subresource}" if subresource else resource
            raise ClusterError(
                f"namespace '{self.namespace}': you may not {verb} {what} in it: ask who runs the"
                " cluster for a role that allows it, or give another namespace"
            )

    @contextmanager
    def _asking(self, what: str, of_kind: bool = False) -> Iterator[None]:
        """Turn what the client raises into one line; `of_kind`: MiniClusters are asked for."""
        import urllib3

        try:
            yield
        except self._exception as exc:
            text = _message(exc)
            if exc.status == 404 and of_kind and any(sign in text for sign in _NO_KIND):
                raise ClusterError(
                    f"{self.host}: knows no MiniClusters: install the Flux Operator there, see"
                    " https://flux-framework.org/flux-operator"
                ) from None
            if exc.status == 404:
                raise _Missing(f"{what}: {text}") from None
            # it is being restarted, has too much to do, or cannot reach a node
            kind = Unreachable if exc.status == 429 or (exc.status or 0) >= 500 else ClusterError
            raise kind(f"{what}: {text}") from None
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            cause = getattr(exc, "reason", None) or exc
            raise Unreachable(
                f"{self.host}: cannot be reached ({one_line(str(cause))[:200]}): see to the"
                " kubeconfig and its context"
            ) from None


class Unreachable(ClusterError):
    """The cluster does not answer, or cannot do so now: it may a moment later."""


class _Missing(ClusterError):
    """There is no such thing."""


#: What API servers say of a kind that they do not know.
_NO_KIND = ("could not find the requested resource", "page not found")

_LIMIT = {"_request_timeout": REQUEST_S}


def _message(exc: Any) -> str:
    try:
        text = json.loads(exc.body)["message"]
    except (TypeError, ValueError, KeyError):
        text = str(exc.body or exc.reason)
    text = one_line(text)[:400]
    if exc.status == 401:
        return f"the cluster does not know who asks ({text}): renew the credentials in kubeconfig"
    return text


def _kubernetes() -> Any:
    try:
        import kubernetes
        import kubernetes.client
        import kubernetes.config
    except ImportError:
        raise UsageError(
            "clusters of Kubernetes need its client, which is not installed: pip install"
            " 'flux-tree[kubernetes]'"
        ) from None
    return kubernetes


def _load(kubernetes: Any, configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    """Read which cluster it is; return the namespace that goes with it."""
    import yaml  # the client needs it too

    config = kubernetes.config
    where = kubeconfig or config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    try:
        config.load_kube_config(where, context, client_configuration=configuration)
        # one without a current context can still have the one that is asked for
        merged = config.kube_config.KubeConfigMerger(where).config
        active = merged["contexts"].get_with_name(context or merged["current-context"])
        return str(active["context"].safe_get("namespace") or "default")
    except config.ConfigException as exc:
        if kubeconfig is None and context is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
                with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as f:
                    return f.read().strip()
            except (config.ConfigException, OSError):
                pass
        raise UsageError(
            f"kubeconfig {where}: {one_line(str(exc)).rstrip('.')}: give --kubeconfig and --context"
            " of a cluster, or set KUBECONFIG"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as exc:
        raise UsageError(
            f"kubeconfig {where}: cannot be read ({one_line(str(exc))[:200]}): give another with"
            " --kubeconfig, or set KUBECONFIG"
        ) from None
