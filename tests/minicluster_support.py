"""Manifests against schemas in strict form: that of the MiniCluster, and Kubernetes' own.

The CRD of the Flux Operator is not in this repository. ``FLUX_TREE_CRD`` is a path to it
(``config/crd/bases/flux-framework.org_miniclusters.yaml`` of its sources), or it is asked of the
cluster that ``FLUX_TREE_CRD=cluster`` and kubectl's context mean.
"""

from __future__ import annotations

import copy
import functools
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from flux_tree import kubernetes
from flux_tree.kubernetes._minicluster import VERSION

CRD_NAME = "miniclusters.flux-framework.org"
#: Of Kubernetes, whose schemas are taken: that of the study, and a new one.
KUBERNETES_VERSIONS = ("1.27", "1.37")


def documents(path: Path) -> list[dict[str, Any]]:
    """Return what a YAML file has."""
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document is not None]


def check(manifest: Mapping[str, Any]) -> None:
    """Fail if a manifest has anything that its kind does not know, or lacks what it needs.

    A MiniCluster is checked against the list of fields; `check_crd` has the rest.
    """
    if manifest.get("kind") == "MiniCluster":
        assert kubernetes.unknown_fields(manifest) == []
    else:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(copy.deepcopy(dict(manifest)), version, strict=True)


def check_crd(manifest: Mapping[str, Any]) -> None:
    """Fail if the CRD refuses a MiniCluster; skip the test if there is no CRD."""
    problems = [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
        for e in strict_validator().iter_errors(manifest)
    ]
    assert not problems, "\n".join(problems)


def strict_validator() -> Any:
    """Return what checks MiniClusters by the CRD's schema, and refuses fields unknown to it."""
    crd = crd_or_none()
    if crd is None:
        pytest.skip("no CRD of the MiniCluster: FLUX_TREE_CRD=PATH, or =cluster to ask kubectl")
    return jsonschema.Draft202012Validator(_strict(_schema(crd)))


@functools.cache
def crd_or_none() -> dict[str, Any] | None:
    """Return the CRD as ``FLUX_TREE_CRD`` says; None if that is not set."""
    where = os.environ.get("FLUX_TREE_CRD")
    if not where:
        return None
    if where != "cluster":
        (crd,) = (d for d in documents(Path(where)) if d["kind"] == "CustomResourceDefinition")
        return crd
    found = subprocess.run(
        ["kubectl", "get", "crd", CRD_NAME, "-o", "yaml"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return yaml.safe_load(found.stdout)


def _schema(crd: Mapping[str, Any]) -> dict[str, Any]:
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == VERSION)
    schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
    # the schema of a CRD leaves the metadata to Kubernetes
    schema["properties"]["metadata"] = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"},
            "namespace": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def _strict(schema: Any) -> Any:
    """Return a schema of OpenAPI as one of JSON Schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(part) for key, part in schema.items()}
    if strict.get("x-kubernetes-int-or-string") is True:
        strict.pop("type", None)
    elif isinstance(strict.get("properties"), dict) and strict.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict


def minicluster_files(top: Path) -> Iterator[Path]:
    """Yield the files below a folder that have a MiniCluster."""
    for path in sorted(top.rglob("*.yaml")):
        if any(d.get("kind") == "MiniCluster" for d in documents(path)):
            yield path
