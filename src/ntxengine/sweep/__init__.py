"""Sweeping: removing what captures that were killed left on a cluster, in a repository, in a folder."""

from ntxengine.sweep.workflow import SweepReport, sweep, sweep_directory

__all__ = ["SweepReport", "sweep", "sweep_directory"]
