"""The service that captures and replicates VMs by itself.

It composes use cases: all it does, a person can do with a command.

queue.py       which of what is due begins now, and why each other one waits
state.py       what is remembered over the end of the agent; database.py: its file; records.py: what it holds
jobs.py        what the scheduler is told                   scheduler.py the loop around all of these
outlook.py     what is due, by VM                           listing.py   the VMs of the jobs
holding.py     what is held, told to people                once.py      what was said, so that it is said once
retries.py     what an error leaves to do                   results.py   what the end of a run makes of its record
running.py     the runs that there are                      recorder.py  what events make of the record of one
runner.py      one run, by the work of its job              connection.py  one connection for all of them
works.py       the kinds of work: work.py, what all are     kinds.py     their words
capturing.py   captures                                     replicating.py  cycles of replicas
repositories.py  opened or made, and never in an empty mount point
clock.py       time, injected
inventory.py   which VMs the jobs have                     sweeping.py  what a killed agent left
metrics.py     what Prometheus is told                      documents.py a run as JSON
anomalies.py   what of a run is unlike those before        history.py   what the runs of VMs were like
run_context.py which run a line of the log is about
traces.py      spans for OpenTelemetry
telling.py     who is told of runs: hooks.py, programs; pings.py, URLs
watch.py       what is watched beside the runs: objectives.py, how old points get; space.py, what recovery points hold;
               replicas.py, how replicas are; levels.py: how bad it is
watch_metrics.py  the same for Prometheus
listening.py   where it is listened; sockets.py makes the sockets
control.py     what it can be told and asked            client.py    whoever tells and asks it
exposition.py  metrics for those who have the token     answers.py   the documents of both sides
status.py      how it is                                health.py    what is not as it should be
asking.py      which runs of the history are meant      reading.py   the history, read beside its writer
memory.py      what runs leave free, given back to the system
service.py     the process                                 notify.py    what systemd is told
configured.py  what a file of configuration means to all of these
"""
