"""How far the model is from measurement, in the lab.

    sudo .venv/bin/python -m benchmarks.model [--hosts 8,16,32] [--rates 40mbit,100mbit]
        [--sizes 8MiB,32MiB] [--repeat 3] [--only PATTERN] [--keep FILE] [--network FILE]

Broadcasts new random data with the embedded engine by each strategy, and with `flux archive
extract` in an instance of Flux for each topology; calibrates the model once, in a small lab, if
--network does not name such numbers; predicts each cell by simulation and in closed form; and
prints both, with their errors. Hosts are network namespaces with NICs of the rate, all files are in
memory.

With --keep, what is measured goes to that file, a line of JSON a cell, and what it holds already is
not measured again: so a run that was cut off goes on, and the table can be made anew without
measuring.
"""
