"""What a repository takes, by VM and by point, and how fast it grows.

space.py    the figures of a point, of a VM, of all
growth.py   how much is added in a day, and for how long there is room
workflow.py gathers them
"""

from ntxengine.stats.growth import WINDOW_DAYS, days_left, growth_per_day
from ntxengine.stats.space import PointSpace, RepositorySpace, VmSpace
from ntxengine.stats.workflow import repository_stats

__all__ = [
    "WINDOW_DAYS",
    "PointSpace",
    "RepositorySpace",
    "VmSpace",
    "days_left",
    "growth_per_day",
    "repository_stats",
]
