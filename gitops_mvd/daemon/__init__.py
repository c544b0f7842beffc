"""The process: what wakes it, one pass of the loop, what it answers, and where everything is made.

loop         one thread decides                    triggers      signals, Docker's events, file changes
mailbox      where everybody else may only post    webhook       a forge reports a push, or a status
wiring       the settings become a server          preview       what a pass would do, with nothing done
supervisor   threads that do not stay down         pulse         the pings of systemd's watchdog
api_server   the local API over two sockets        answers       what it answers to each question
host_view    this server as it is shown            operations    the pass of this moment, step by step
lead         who of the managers of a Swarm acts
events       the latest lines of the log           changes       a number that grows with what is to be seen
metrics      their values, and their port          small_server  who answers at a port of the network
waves        which commit is followed while a rollout goes from wave to wave; `gate_questions` what it asks in between,
             `awaited` the statuses of others that it waits for
fleet_entry  what `fleet.yaml` says of this host, for whoever looks at it
moves        what is kept here until the hosts have it that a commit moves it to
planning     a pull request, read by `planning_child`, a process with limits of time and memory
notifying    a message to one receiver, sent by `notifying_child`
connections  Docker, Kong, Git and the forge, as the settings name them; the secrets for them

May import every room but `cli` and `web`.
"""
