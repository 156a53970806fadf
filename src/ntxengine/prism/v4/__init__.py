"""Prism by v4: VMs, recovery points and tasks at Prism Central, changed regions at the Prism Element that it names.

central.py      the Prism of a Prism Central; a recovery point that is half made is removed
points.py       recovery points: made, found, deleted
regions.py      cluster discovery, its token, and the pages of changed regions
disks.py        hot-add to a worker VM
power.py        shutting guests down, and letting VMs run
volumes.py      volume groups of disks of recovery points, offered over iSCSI
groups.py       volume groups that are attached to VMs
etags.py        changing what others may change meanwhile
facts.py        storage containers and hosts; clusters.py  categories.py  guest_tools.py
tasks.py        waiting for a task
pages.py        lists: $page and $limit
calls.py  api.py  volumes_api.py   one method for each call, without policy
schema.py       the answers, and how they become models; schema_*.py those of one subject
"""
