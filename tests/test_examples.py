"""The manifests in examples/minicluster, against the schemas of what they are."""

from __future__ import annotations

import copy

import jsonschema
import pytest
from minicluster_support import check, check_crd, strict_validator, unknown_fields

SMALL = {
    "apiVersion": "flux-framework.org/v1alpha2",
    "kind": "MiniCluster",
    "metadata": {"name": "small"},
    "spec": {
        "size": 2,
        "tasks": 2,
        "flux": {"topology": "kary:2", "noWaitSocket": True},
        "containers": [{"image": "flux-tree:latest", "command": "true"}],
    },
}


def test_a_good_one_passes():
    check(SMALL)
    check_crd(SMALL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.flux.topolgy", "kary:2"),
        ("spec.flux.topology", 2),
        ("spec.flux.noWaitSocket", "yes"),
        ("spec.containers.0.volumes", {"shm": {"emptydir": True}}),
        ("spec.containers.0.commands", {"brokerpre": "true"}),
        ("spec.tasks", "2"),
        ("spek", {}),
        ("kind", "Minicluster"),
    ],
)
def test_the_list_of_fields_refuses(path, value):
    assert unknown_fields(changed(path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.flux.topolgy", "kary:2"),
        ("spec.flux.topology", 2),
        ("spec.containers.0.volumes", {"shm": {"emptydir": True}}),
        ("spec.containers.0.resources", {"limits": {"cpu": []}}),
        ("spec.containers", None),
        ("metadata.nam", "x"),
        ("spek", {}),
    ],
)
def test_the_schema_refuses(path, value):
    assert list(strict_validator().iter_errors(changed(path, value))) != []


def test_a_secret_with_a_wrong_field_is_refused():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringdata": {}}
    with pytest.raises(jsonschema.ValidationError):
        check(secret)


def changed(path, value):
    manifest = copy.deepcopy(SMALL)
    *way, last = path.split(".")
    at = manifest
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    at[last] = value
    return manifest
