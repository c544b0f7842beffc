"""`make fuzz`: whatever comes from outside ends in a result or in an error of our own, soon and with little memory.

    mutants     a text or a document, changed at random
    surfaces    what is read from outside: how an input for it is made, and what must hold once it is read
    verdict     one input, tried: what was wrong with it

An input is a mapping of names to bytes, made from its number and the seed alone.  What was found is kept in
tests/unit/fuzzed, and tried again by tests/unit/test_fuzzed.py.
"""
