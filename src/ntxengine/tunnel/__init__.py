"""Tunnels through OpenSSH: a program of its own for each connection, from a socket here to a server there.

    we --- 0.sock --- ssh ---+
       --- 1.sock --- ssh ---+--- sshd there --- NBD server there
       --- 2.sock --- ssh ---+

The bytes go from a socket to ssh; none of them through Python.

options.py   who logs in where, with what, and to what there: checked before anything is started
command.py   the argument vector of ssh
words.py     what ssh says, as an error with a remedy
process.py   one ssh: started, started again when it ends, ended
several.py   as many as there are connections
port.py      a port of loopback instead of sockets, for a client that knows none
"""
