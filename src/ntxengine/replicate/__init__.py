"""Replicas: a VM that follows on another platform, a few minutes behind.

cycle.py     from one generation to the next                  disk.py      one disk in it
plan.py      what would be done                               options.py   how
state.py     what is remembered                               intent.py    what is about to be written
writing.py   its writes                                       tracker.py   whether the cluster told all
extents.py   what is written, and what is in doubt            targets/     where replicas are kept
cutover.py   nothing follows any more                         isolated.py  an isolated copy
stopping.py  the guest is shut down for it
history.py   older generations                                generation.py   what is committed
status.py    how far they are behind                          verify.py    compared with what was frozen
packing.py   how far a file of all disks is               others.py    whose places are not ours
"""
