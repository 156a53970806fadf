"""HTTPS to one Prism host; knows nothing of what is asked there.

session.py      sends a request and returns a good answer: the only home of httpx
body.py         the body of an answer, within its bounds, also where it comes compressed
message.py      a request and its answer
endpoint.py     an address that was checked, the account to use there, how its certificate is judged
accounts.py     kinds of accounts, and what each sends to prove itself; secret.py: what does not print itself
login.py        one login at a time, the rest wait for its cookie
cookies.py      which cookies are kept, sent, secret
limiter.py      no faster than Prism's rate limits allow
trust.py        how a certificate is judged, and those that were trusted on first use; tls.py: that, done
certificate.py  what stands in a certificate, whoever signed it
retry.py        when to ask again, and after how long: a decision without I/O
refusal.py      an answer that is no, as the error to raise
error_body.py   what an error answer says, of every API family
hidden_error.py errors that come with a good status
watch.py        what answers tell beside their bodies: the clock, rate limits
parse.py        bytes of an answer -> checked values
clock.py        time, so that tests move it by hand

Nothing is imported here: `session` costs more time than all of `ntx --help` may take.
"""
