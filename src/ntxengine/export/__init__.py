"""Exporting a VM to a control plane that is not ours: it reads the disks, and is told what changed.

workflow.py   from lock to done, and back if something fails
plan.py       what would be done                              options.py     how to export
access.py     ports with TLS, or sockets behind ssh           links.py       pages of changed regions, and "done"
message.py    what the control plane is told                  notify.py      telling it
ending.py     who says how it ends
"""
