"""Tasks, threads and programs that end as they should: to completion, joined, a few at a time, or taken back.

completion.py   work that ends although its caller is cancelled, and threads that are joined
handshake.py    a connection that is closed when its TLS handshake is cancelled
names.py        the look-up of a host, in a thread that is left behind
parallel.py     the same work on several things, a few at a time
rollback.py     steps that take back what was done, newest first
signals.py      a signal for a program that the loop started
tied.py         programs that the kernel ends when we end
"""
