"""The file of configuration: what it may say, what is wrong with it, and what it means.

problems.py   what is wrong, with line and key             document.py   YAML with places, variables, limits
part.py       what all models have in common               values.py     texts that are known to mean something
sections.py   the cluster, captures, limits, the tunnel    jobs.py       jobs
replicas.py   what is kept as a replica                    kinds.py      what a job does
file.py       the whole file, and its profiles             checks.py     what has to fit together
reading.py    from a file to a configuration               meaning.py    what it is to captures, Prism, retention
secrets.py    where passwords and keys come from           showing.py    what holds, without secrets; the schema
named_files.py  the files that it names, looked at         listening.py  addresses and sockets to listen at

    document -> models -> checks;  meaning, secrets <- models

It needs the extra `agent` (pydantic, PyYAML, cronsim): whoever imports a module of this room imports those.
"""
