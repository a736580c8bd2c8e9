"""A source that is in a registry: rank 0 pulls it, and the others receive while it does.

The frames between who pulls and the node of rank 0 are described in docs/registry.md.
"""

from __future__ import annotations

from ._feed import Feed, open_feed
from ._reference import Reference, is_reference

__all__ = ["Feed", "Reference", "is_reference", "open_feed"]
