"""The process: what wakes it, one pass of the loop, and where everything is made.

loop         one thread decides                    triggers   signals, Docker's events, file changes
mailbox      where everybody else may only post    webhook    a forge reports a push
wiring       the settings become a server          preview    what a pass would do, with nothing done
planning     a pull request, read by `planning_child`, a process with limits of time and memory
notifying    a message to one receiver, sent by `notifying_child`
connections  Docker, Kong, Git and the forge, as the settings name them; the secrets for them

May import every room but `cli`.
"""
