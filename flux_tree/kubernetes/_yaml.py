"""Manifests as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UsageError

__all__ = ["documents"]


def documents(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return manifests as ``kubectl apply -f -`` takes them.

    Parameters
    ----------
    manifests : iterable of mapping
        Of objects.

    Returns
    -------
    str
        YAML, a document for each.

    Raises
    ------
    UsageError
        If PyYAML is missing.
    """
    try:
        import yaml
    except ImportError:
        raise UsageError(
            "manifests need PyYAML, which is not installed: pip install pyyaml"
        ) from None
    return str(yaml.safe_dump_all(map(dict, manifests), sort_keys=False, explicit_start=True))
