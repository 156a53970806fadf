"""The benchmark harness: our data plane against the programs that people use for the same, on this machine.

    suite    what to measure, as data          wire, client, engine   the data plane in a process of its own
    disks    the bytes that are copied         peers                  what each contestant runs
    servers  the NBD servers (certificates)    measure                wall time, CPU and memory of processes
    stage    the two ends of one case          rounds                 warm-up, alternating rounds, checks
    machine  what it ran on                    stats, result, plot    medians and ratios, the record, the picture

Every round runs every contestant once, in rotated order; ratios are medians of the ratios of one round each.
"""
