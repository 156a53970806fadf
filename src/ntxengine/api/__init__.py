"""What a program that embeds the engine calls: each use of it in one call, by names and paths (docs/library.md).

copying.py     copy and digest: disks, wherever they are
cluster.py     connect, and the VM that a name means
inventory.py   the VMs that are wanted, and what is known of each
capturing.py   capture a VM
exporting.py   let a control plane read a VM
points.py      the newest point of a VM; restore its disks; prune what is forgotten; copy points elsewhere

Callers take these from `ntxengine` itself, which also shows the classes of other rooms that they deal with.
"""
