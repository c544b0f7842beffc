"""The one client of the Docker engine, and what a service is to it.

client      `Engine`, which is all of these:            connection  sessions, and what a failure of one means
containers  created, listed, stopped, removed           container   one container: exec, stat, how it ended
images      pinned, pulled, tagged, removed             networks    and volumes
events      followed, so that listings can be cached    cache       answers that hold until an event says otherwise
types       the answers of the API, typed               answers     errors, references and containers read from them
create      a service -> the request for its container  aliases     the names by which others find a container
starts      several at once, beside other work          shape       is an answer as it is documented?
ownership   whose a container is                        claims      what only one can have of the host
possible    what a start would fail of                  taken       ports that somebody else uses
fit         can services run on this engine?        swarm       a manager: services, tasks and nodes as an engine
swarm_request  a service -> the request for its service of a Swarm    swarm_targets  its tasks that Kong is led to
command_line  ... -> the `docker run` in a unit's comment

May import `core`.  Only this room imports the `docker` library.  Must not know systemd, Kong or Compose files.
"""
