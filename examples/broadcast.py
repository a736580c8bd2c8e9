"""Broadcast inside an instance of Flux, and read what an earlier job measured.

    flux alloc -N8 flux python examples/broadcast.py
    flux start -s 4 python3 examples/broadcast.py

``python3`` does where the package flux-python is installed, as ``flux python`` where NumPy is.
"""

import flux

import flux_tree

#: A file or a directory on the first node; here, a file that is there for sure.
SOURCE = flux_tree.__file__
#: Where to on every node. ``{rank}`` is needed only where brokers share a host.
DESTINATION = "/tmp/flux-tree-example-{rank}.py"

handle = flux.Flux()

# a job puts the source on every node of the instance, and this waits for it
result = flux_tree.broadcast(SOURCE, DESTINATION, handle=handle, overwrite=True)
print(result)

# what it measured stays in the key-value store of Flux, for as long as Flux knows the job
earlier = flux_tree.records(result.jobid, handle)
print(f"\njob {earlier.jobid}:")
for record in earlier.records[1:]:
    host = earlier.hosts[record["rank"]]
    print(f"  rank {record['rank']} on {host} was done after {record['verified']:.3f} s")
