"""The service that captures VMs by itself.  It composes use cases: all it does, a person can do with a command.

schedule.py    when a job is due                            window.py    the times in which runs may begin
queue.py       which of what is due begins now, and why each other one waits
state.py       what is remembered over the end of the agent; database.py: its file; records.py: what it holds
"""
