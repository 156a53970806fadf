"""Files and folders of this machine: names that last, locks, room left, and whether two names are one.

names.py        opened without being led elsewhere; published in one step
durable.py      written so that they survive a power cut; errors as one clear line
locks.py        kernel locks, by what the file system has
lock_file.py     files that say that somebody works on something
unfinished.py   files that are being made, told from those that a killed process left
private.py      folders that only we can enter, removed also after a kill
identity.py     whether two names mean the same bytes
free_space.py   what is said where there is no room
secret_file.py   a password or a key in the first line of a file
"""

from ntxengine.files.names import find_irregular, open_regular, publish, rename_new, replace, sync_folder

__all__ = ["find_irregular", "open_regular", "publish", "rename_new", "replace", "sync_folder"]
