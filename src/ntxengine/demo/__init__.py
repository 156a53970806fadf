"""The demos: a guest with real file systems on a simulated cluster, captured twice, verified, restored and proved; an
agent that captures two VMs; a replica that a machine boots from.

    guest.py     the two disks of the guest, and what it does to them between the captures
    shell.py     running a program so that a person sees what is run
    cluster.py   the simulated cluster
    machine.py   what the demo needs of this machine
    bootable.py  disks that boot, and say on their serial line what they read
    proof.py     what tools that are not ours say about the result
    workplace.py the folder that it works in
    capture.py   the workflow of a person, agent.py that of an agent, replicate.py that of a replica

It works through the command line, as a person would: everything it does can be repeated by hand.
"""
