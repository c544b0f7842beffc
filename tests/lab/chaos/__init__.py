"""`make chaos`: random commits and random faults on a lab server; after each, the server must be equal to Git.

commits     what is committed, and what has to come of it                 (pure)
ground      the server, its forge and its gateway, and what they show
faults      what goes wrong: each with its begin and its end
checks      what is not as it should be, in sentences
run         rounds of all that, and the story of those that end badly
"""
