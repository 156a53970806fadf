"""Restoring, under the name that it has for callers: `ntxengine.restore` is a package."""

from ntxengine.restore import restore as restore_point

__all__ = ["restore_point"]
