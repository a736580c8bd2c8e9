"""The broadcast against everything else that brings a file to every node, in one run.

    python -m benchmarks.peers [--hosts 32] [--rate 100mbit] [--size 100MiB] [--repeat 1]
                               [--only 'direct *,torrent'] [--plot FILE] [--json FILE]

Needs root. All peers get a payload of the same size, random and new for each of them, from host 0
to all other hosts of one lab: network namespaces, each with a NIC of the same rate, on this
machine, with all files in memory. Line time is the size divided by what one TCP stream between two
of its hosts moves; a time is given in seconds and as a ratio to it. No broadcast takes less than
that, whoever makes it.

Two times are taken. `slowest` begins when the peer asks for the data and ends when the slowest
host has all of it; `command` is the whole of what somebody types and waits for. Where a peer is
not a command, or the two cannot be told apart, there is `command` or `slowest` only.

================  ===============================================  ================================
peer              slowest                                          command
================  ===============================================  ================================
direct STRATEGY   of the report: shells of the job come together   `flux run -o tree-bcast=STRATEGY`
                  until the slowest has verified its data (TLS)    with the start of the job
content TOPO      of the report: as above, for an archive that is  as above, with and without the
                  there, by the TBON, read from the content cache  `flux archive create` before it
extract TOPO      the first rank's `flux archive extract` begins   `flux exec -x 0`, with and
                  until the last rank's ends                       without the creation
stage-in TOPO     shells of the job start until all have staged    `flux run -o stage-in`, with and
                  (the job's eventlog: starting, shell.start)      without the creation
torrent           all receivers, which wait and know each other,   none: sessions and the torrent
                  may connect until the last one has verified all  are made before
sbcast            none                                             `sbcast` in an allocation that
                                                                   is there
rsync             none                                             one `rsync` of a daemon on each
                                                                   host, all at once, no ssh
================  ===============================================  ================================

TOPO is the TBON of the instance: kary:32 is Flux's default, flat up to 33 brokers. Archives are
created with ``--mmap``, which is the faster way. The root makes no copy of its own where that can
be chosen (not in stage-in; its copy does not pass the NIC). What the hosts received is compared
with the source afterwards, byte by byte, outside of all times.

Processor seconds are those of the whole machine while the command ran, idle is the share of time
that its processors were idle; where that is less than a tenth they were the limit, not the NICs,
and the row says so. That needs a machine with nothing else to do. `sent` is what left the NIC of
host 0, in payloads: it is at least 1, and n - 1 where the root sends to all. It shows the fan-out
of sbcast, too, which is at most 8.

A peer that is not installed is left out, and named with what to install: ``flux``, libtorrent
(``pip install libtorrent``), Slurm (Debian: slurm-wlm and munge), rsync (Debian: rsync). The
daemons of Slurm and rsync that run on the hosts have configurations, keys and folders of their
own, and are gone afterwards like everything else.
"""
