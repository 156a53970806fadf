"""The agent as a service of a machine: its unit, its installation from a release folder, its removal.

unit.py       the unit of systemd and its drop-ins, from the templates in files/
needs.py      what a configuration makes the unit allow: folders to write, disks to read
release.py    a release folder, and whether it is whole
places.py     where everything lies, also below another root
written.py    the list of what an installation wrote, which is all that a removal removes
system.py     the programs that are started: systemctl, useradd, venv, pip
versions.py   versions side by side, and the link to the one that is used
configuration.py   the configuration that is installed, and whether this version can go on from what is remembered
put.py        files that are put in place, each with the way back
install.py    the order of it, and the way back
uninstall.py  the removal
"""

from __future__ import annotations
