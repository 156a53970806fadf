"""HTTPS to one Prism host; knows nothing of what is asked there.

session.py      sends a request and returns a good answer: the only home of httpx
endpoint.py     an address that was checked, an account, secrets that do not print themselves
retry.py        when to ask again, and after how long: a decision without I/O
error_body.py   what an error answer says, of every API family
parse.py        bytes of an answer -> checked values
clock.py        time, so that tests move it by hand

Nothing is imported here: `session` costs more time than all of `ntx --help` may take.
"""
