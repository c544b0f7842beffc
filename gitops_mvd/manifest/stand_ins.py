"""What stands in the repository for something else: pointers, links, submodules, what others have encrypted.  Pure.

A container that got one would see the three lines of a pointer, or a ciphertext, in place of the file that is meant.
"""

from __future__ import annotations

import re

from gitops_mvd.core.ports import Tree

_POINTERS = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n"),
        "is a pointer of Git LFS, whose file is not fetched: put the file into the image or a volume",
    ),
    (
        re.compile(rb"(?:\.\./)*(?:\.git)?/annex/objects/[^\n]+\n?\Z"),
        "is a pointer of git-annex, whose file is not fetched: put the file into the image or a volume",
    ),
    (
        re.compile(rb"\0GITCRYPT\0"),
        "is encrypted with git-crypt, which no server unlocks: use SOPS, or a secret with `external: true`",
    ),
    (
        re.compile(rb"\$ANSIBLE_VAULT;"),
        "is encrypted with Ansible Vault, which no server decrypts: use SOPS, or a secret with `external: true`",
    ),
)
_KINDS = {
    "link": "is a symbolic link, which is not followed: name the file that it leads to, or put a copy in its place",
    "submodule": "is a submodule, whose files are not fetched: copy them into this repository, or into the image",
}


def stand_in(content: bytes) -> str:
    """What a file stands for, as the end of a sentence that names the file; "" for a file that is what it is."""
    for pattern, what in _POINTERS:
        if pattern.match(content):
            return what
    return ""


def in_the_way(tree: Tree, path: str) -> str:
    """What is in place of a path of the repository or of a folder above it, such as a link; "" if nothing is."""
    parts = path.split("/")
    for at in ("/".join(parts[:length]) for length in range(1, len(parts) + 1)):
        if (kind := tree.kind(at)) and kind != "folder":
            return f"{at} {what}" if (what := _KINDS.get(kind)) else ""
    return ""


def not_a_folder(tree: Tree, path: str) -> str:
    """What is in place of a folder of the repository, such as a file; "" for a folder, or for nothing at all."""
    if why := in_the_way(tree, path):
        return why
    return f"{path} is a file, and not a folder" if tree.kind(path) == "file" else ""


def not_a_file(tree: Tree, path: str) -> str:
    """The message about a path of the repository that is not that of a file."""
    if why := in_the_way(tree, path):
        return why
    return f"{path} is a folder, and not a file" if tree.names(path) else f"there is no file {path} in the repository"
