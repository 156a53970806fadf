"""Prism by v4: VMs, recovery points and tasks at Prism Central, changed regions at the Prism Element that it names.

central.py      the Prism of a Prism Central; a recovery point that is half made is removed
regions.py      cluster discovery, its token, and the pages of changed regions
disks.py        hot-add to a worker VM
tasks.py        waiting for a task; pages of entities
api.py          one method for each call, without policy
schema.py       the answers, and how they become models
schema_discovery.py   the answer of cluster discovery
"""
