"""Comparing two points of one VM by their manifests: no byte of a disk is read.

points.py     which disks differ, and by how much
profile.py    how much, along the disk
"""

from ntxengine.compare.points import DiskDifference, DiskRegions, PointDifference, compare_points, region_windows

__all__ = ["DiskDifference", "DiskRegions", "PointDifference", "compare_points", "region_windows"]
