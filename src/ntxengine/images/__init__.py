"""Disk images: read as one device, made new, and known by their format.  Nothing of points.

open.py          a chain of QCOW2 images as one device to read       create.py     the counterpart: a new image
choice.py        what can be chosen of a new one                     writer.py     what every writer of images is
qcow2.py         a QCOW2 image written by the core                   qcow2_by_qemu.py     one written by a qemu-nbd
raw.py           a raw file
cluster_tables.py  a chain read by its own tables, in the core
cluster_map.py   where the bytes of a disk lie in the files of its chain, by qemu-img
held.py          the files of a chain, while nobody writes to them
served.py        what a qemu-nbd can serve, and by which name
qemu_nbd.py      a qemu-nbd that serves one image                 qemu_img.py   making and checking images
process.py       programs that end with us
header.py        what the header of an image says                rebase.py    the name of the image below, changed
endpoints.py     SOURCE and TARGET as a person names them         named.py      those that are images
targets.py       TARGET opened as often as it takes until it is whole
formats.py       what a file looks like
vmdk.py          the descriptor of a flat VMDK                    vmdk_stream.py  a streamOptimized one
ova.py           those in a tar, behind an envelope               vhd.py          the footer of a fixed VHD
"""
