"""A Compose project as it lies on a disk → the folder of an app.

document   a YAML text, the places in it, and its edits
secrets    what is taken for a secret, and why
images     what images are known to do

A text is edited at single places and never written anew, so that comments, anchors and order stay.
May import `manifest`, `config` and `core`.  Must not know Docker, Git, a server or its settings.
"""
