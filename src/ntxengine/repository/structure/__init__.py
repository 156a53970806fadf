"""What a repository consists of, compared with what it should: found without a change; and the safe part mended.

finding.py   what is wrong, where, and what to do
root.py      the marker, the site, the catalog, what else is in the directory
vm.py        the folder of a VM: its files, what killed captures and prunes left, its points
point.py     the folder of a point: its files, its manifests, its images
names.py     names that nothing of ours has, and files that others may read
mend.py      what was left is removed, the catalog made anew, names of images below put right
"""

from ntxengine.repository.structure.finding import Finding, Findings, Kind, Place, Severity
from ntxengine.repository.structure.mend import REPAIRS, mend_catalog, mend_root, mend_vm
from ntxengine.repository.structure.root import find_vm_folders, inspect_root
from ntxengine.repository.structure.vm import inspect_vm

__all__ = [
    "REPAIRS",
    "Finding",
    "Findings",
    "Kind",
    "Place",
    "Severity",
    "find_vm_folders",
    "inspect_root",
    "inspect_vm",
    "mend_catalog",
    "mend_root",
    "mend_vm",
]
