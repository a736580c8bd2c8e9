"""Which tests can run here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import cluster_support
import pytest

from flux_tree import _namespace
from flux_tree.kubernetes import Cluster
from flux_tree.kubernetes._cluster import ClusterError

# tests make the instances that they need; commands go elsewhere inside the one around
os.environ.pop("FLUX_URI", None)


def pytest_configure():
    # a shell without job control has what it runs in the background ignore Ctrl-C, and the
    # programs that are tested would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def may_make_namespaces():
    """Return whether the kernel lets this process do so, which not every container's root may."""
    try:
        _namespace.in_thread(lambda: _namespace.unshare(_namespace.NET | _namespace.MOUNT))
    except OSError:
        return False
    return os.geteuid() == 0


def pytest_report_header():
    if not shutil.which("flux"):
        return "flux-core: not found"
    version = subprocess.run(["flux", "version"], capture_output=True, text=True).stdout
    return f"flux-core: {version.splitlines()[0].split()[-1]}"


def pytest_collection_modifyitems(items):
    no_flux = pytest.mark.skip(reason="flux is not on PATH: install flux-core to run this")
    no_root = pytest.mark.skip(reason="needs root, with the right to make network namespaces")
    makes_namespaces = may_make_namespaces()
    no_cluster = cluster_support.missing()
    for item in items:
        if "flux" in item.keywords and not shutil.which("flux"):
            item.add_marker(no_flux)
        if "lab" in item.keywords and not makes_namespaces:
            item.add_marker(no_root)
        if "cluster" in item.keywords and no_cluster is not None:
            item.add_marker(pytest.mark.skip(reason=no_cluster))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real API server that knows MiniClusters."""
    with cluster_support.ApiServer(tmp_path_factory.mktemp("cluster")).run() as found:
        without = Cluster(str(found.kubeconfig))
        with pytest.raises(ClusterError, match="knows no MiniClusters: install the Flux Operator"):
            without.check()
        found.install_crd()
        yield found


@pytest.fixture
def operator(server, tmp_path):
    """The stand-in for what is behind it."""
    from cluster_operator import Operator

    folder = tmp_path / "logs"
    folder.mkdir()
    with Operator(server, folder) as found:
        yield found
