"""Prism by v3 and v2: VMs, snapshots and changed regions of a Prism Element.

element.py      the Prism of a Prism Element; a snapshot that is half made is removed
points.py       snapshots: made, found, deleted
disks.py        hot-add to a worker VM
volumes.py      volume groups of snapshot files, offered over iSCSI
facts.py        storage containers and hosts; usage.py: what disks take; guest_tools.py
pages.py        lists: offset and length
tasks.py        waiting for a task of v2
api.py          one method for each call, without policy
schema.py       the answers of v3, and how they become models
schema_v2.py    the answers of v2: which storage file is which disk, and tasks
"""
