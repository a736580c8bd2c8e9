"""How long a broadcast should take: predictions, bounds, and results explained.

What is assumed, and how each was checked (docs/model.md has the figures; "benchmark" is
``python -m benchmarks.model``, in labs of 8 to 32 hosts):

- A NIC sends and receives its bandwidth at the same time. Benchmark: chain, edst. Slower NICs of
  single ranks: in the lab.
- What a rank sends at the same time shares its NIC in equal parts. Benchmark: flat, kary, binomial;
  not so on hosts without fair queues.
- What comes passes a NIC in order, cut through, and nothing is lost. Benchmark: edst.
- Latency is the same for all pairs, and switches have no bounds. Not checked on a real network.
- Uplinks of groups are shared in each direction. In the lab, 2 and 4 racks.
- A token bucket lets a burst pass when a NIC was idle. Benchmark: chain.
- A chunk is passed on when all of it is there and checked. Benchmark: chain.
- Work costs so much a chunk and so much a byte at each end. Benchmark, where processors are no
  limit; where they are, predictions are up to half too long.
- A rank takes in no more than its disk can write; reading costs rank 0 nothing. Not checked.
- A connection, and three messages a hop, come before the data; the manifest has no size. Benchmark
  for one file; many files: not checked.
- A later phase begins when all of the earlier ones is done. By hand, in the tests.
- Nothing fails. Not modelled.
- `flux archive`: one blob in flight a rank; a broker asks for each content once, passes it on when
  all of it is there, and drops nothing; the root has all. Benchmark to 32 MiB; more: not checked.
"""

from __future__ import annotations

from ._model.bound import best_chunk_size, lower_bound
from ._model.compare import (
    STRATEGIES,
    TOPOLOGIES,
    compare,
    compare_topologies,
    default_strategies,
)
from ._model.explain import Explanation, explain
from ._model.limit import CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, chunk_size, limit
from ._model.network import Network, network_path
from ._model.predict import Prediction, predict

__all__ = [
    "CHUNK_SIZE_MAX",
    "CHUNK_SIZE_MIN",
    "Explanation",
    "Network",
    "Prediction",
    "STRATEGIES",
    "TOPOLOGIES",
    "best_chunk_size",
    "chunk_size",
    "compare",
    "compare_topologies",
    "default_strategies",
    "explain",
    "limit",
    "lower_bound",
    "network_path",
    "predict",
]
