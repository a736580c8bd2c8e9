"""How long a broadcast should take."""

from __future__ import annotations

from ._model.limit import CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, chunk_size, limit
from ._model.network import Network, network_path
from ._model.predict import Prediction, predict

__all__ = [
    "CHUNK_SIZE_MAX",
    "CHUNK_SIZE_MIN",
    "Network",
    "Prediction",
    "chunk_size",
    "limit",
    "network_path",
    "predict",
]
