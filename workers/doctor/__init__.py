"""`rsafe doctor`: looks at everything that a worker needs, changes nothing, and says what to mend.

findings.py      what a check found, and how it is written
facts.py         what brokers, Redis and servers say of themselves: the values that the checks read
run.py           the order of the checks, the quick ones first, and the ports through which they ask
own_settings.py  settings that are allowed and ask for trouble; the content key; links that can be read
versions.py      the libraries, compared with what this release supports
judging.py       policies, checkpoint, and whether they fit each other and the engine
brokers.py       brokers, topics, rights, the group
redis_servers.py the shared verdict cache
clock.py         this machine's clock beside theirs
servers.py       the servers of the engine `remote`, and the start of an engine
"""
