"""The data plane as Python sees it: bytes from one place to another, described, counted and digested.

copy.py           copy, digest, verify: one device to another, with progress and cancellation
options.py        how: what a caller chooses                        transfer.py       one job of the core, to its end
checkpoints.py    how far a copy has got, for good                  journal.py        the same in a file
retry.py          going on after a lost connection                  recognise.py      whether a source is still the same
blocks.py         extents widened to blocks, and the rest
progress.py       what a copy says of itself: counters, the report at its end
open.py           devices: a file, a block device, an NBD export, made new or opened, and closed on every path
connect.py        NBD servers: names looked up, addresses tried, given up when cancelled
security.py       how their connections are kept from others        tls.py            keys and certificates
ssh_uri.py        NBD servers behind an ssh server: their URIs       through_ssh.py    their tunnels
location.py       what names them: paths and URIs                   standard.py       standard input and output
extents.py        which bytes: arrays and files of extents          extents_json.py   the same as JSON
mapping.py        what a device says lies where
manifest.py       the digest of every block of a disk
differing.py      where two disks differ, by their manifests        coverage.py       reading a disk in parts: the order
tier.py           where a transfer begins                           buffers.py        the memory that copies share
bandwidth.py      the limits that copies share                      timetable.py      the rate at which time of day
cpu.py            what processes take of the machine                memory.py         the budget of memory
about.py          what the core chose on this machine
"""
