"""This machine: what was found on it, carrying out steps, waiting at gates, and judging health.

machine     the Host port, composed of the parts below     snapshot    what was found, once for a pass
admission   policy, images, networks, secrets of an app    planner     wanted + found -> the plan; host_ports its ports
executor    carries out steps                              gates       wait until a probe or the route proof succeeds
health      how apps are now, and why                      monitor     probes running instances again, now and then
turns       how many apps are worked on at once            ways        ports and route, asked as users ask them
tasks       those of a Swarm, asked on their nodes
disruption  did Docker or the server go down meanwhile?  Then a failure is not the version's

May import kinds, the clients and everything below.  Must not know commits, forges or where a result is reported.
"""
