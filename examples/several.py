"""Broadcast several times at once inside an instance of Flux, with callbacks.

flux start -s 4 python3 examples/several.py
"""

import flux

import flux_tree

handle = flux.Flux()


def done(future):
    """Print how one of them went; `get_result` raises what went wrong."""
    result = future.get_result()
    slowest = result.summary()["slowest_s"]
    print(f"{result.jobid} {result.plan.strategy}: {result.bytes} bytes, {slowest:.3f} s")


for strategy in ("chain", "binomial", "two-tree"):
    # {{tmpdir}} is the job's own directory on each node, which goes away with the job
    future = flux_tree.broadcast_async(flux_tree.__file__, "{{tmpdir}}", strategy, handle=handle)
    print(f"{future.get_jobid().f58} {strategy}: submitted")
    future.then(done)

handle.reactor_run()
