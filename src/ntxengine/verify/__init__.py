"""Verifying: whether points still are what was captured.

workflow.py   points, one after another, and what is read once for all of them
disk.py       one disk of a point against its manifest
"""

from ntxengine.verify.disk import DiskVerdict
from ntxengine.verify.workflow import PointVerdict, verify_point, verify_points

__all__ = ["DiskVerdict", "PointVerdict", "verify_point", "verify_points"]
