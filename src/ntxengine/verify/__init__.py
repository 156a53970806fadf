"""Verifying: whether points still are what was captured.

workflow.py   points, one after another, and what is read once for all of them
disk.py       one disk of a point against its manifest
sampling.py   the same by samples, which come to cover all of it
verdict.py    what was found
"""

from ntxengine.verify.disk import Below, verify_disk
from ntxengine.verify.sampling import Sampling
from ntxengine.verify.verdict import DiskVerdict, Sampled
from ntxengine.verify.workflow import PointVerdict, verify_point, verify_points

__all__ = [
    "Below",
    "DiskVerdict",
    "PointVerdict",
    "Sampled",
    "Sampling",
    "verify_disk",
    "verify_point",
    "verify_points",
]
