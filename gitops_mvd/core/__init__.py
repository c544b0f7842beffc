"""The nouns, the laws and the decision: what an app is, what differs, what to do about it.  Pure.

model       the values that every room speaks          errors     one leaf for each reaction of the loop
ports       the protocols between rooms, with laws     plan       wanted + found -> the steps of one app
rollout     how instances of a service are replaced    plan_text  a plan in words
decide      which version an app should be, and how    reconcile  deploy, heal, remove and roll back: start here
policy      what a host lets the repository do         features   modules found by name, each complete or refused
joins       services that share a namespace            specs      what is compared of each kind of resource
difference  what a person changed, in phrases          cost       how long what is down, and who waits
waves       which commit a host may follow now         windows    the hours of a rollout
moves       what a host keeps until others have it
canary      shares of the traffic, and their verdicts

Imports no other room, and nothing that touches the world: no Docker, Git, files, clock or threads.
Must not know which kinds, probes and forges exist, how a manifest is written, or where a result is reported.
"""
