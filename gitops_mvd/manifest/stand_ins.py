"""What stands in the repository for something else: pointers, links, submodules and encrypted files.  Pure.

A container that got one would see the three lines of a pointer, or a ciphertext, in place of the file that is meant.
"""

from __future__ import annotations

import re

from gitops_mvd.core.ports import Tree

_NOT_DECRYPTED = "and nothing here decrypts it: mount the file of the host, by its absolute path"
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
        "is encrypted with git-crypt, which no server unlocks: mount the file of the host, by its absolute path",
    ),
    (
        re.compile(rb"\$ANSIBLE_VAULT;"),
        f"is encrypted with Ansible Vault, {_NOT_DECRYPTED}",
    ),
)
_SOPS = re.compile(rb"ENC\[AES256_GCM,data:")
_SOPS_IS_ITS = re.compile(rb"\bsops(?:_|\"?:|\])")
_KINDS = {
    "link": "is a symbolic link, which is not followed: name the file that it leads to, or put a copy in its place",
    "submodule": "is a submodule, whose files are not fetched: copy them into this repository, or into the image",
    "folder": "is a folder, and not a file",
}


def stand_in(content: bytes) -> str:
    """What a file stands for, as the end of a sentence that names the file; "" for a file that is what it is."""
    for pattern, what in _POINTERS:
        if pattern.match(content):
            return what
    if _SOPS.search(content) and _SOPS_IS_ITS.search(content):
        return f"is encrypted with SOPS, {_NOT_DECRYPTED}"
    return ""


def not_a_file(tree: Tree, path: str) -> str:
    """The message about a path of the repository that is not that of a file: what is in its way."""
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        at = "/".join(parts[:length])
        if tree.oid(at) and (kind := tree.kind(at)) != "folder" and kind in _KINDS:
            return f"{at} {_KINDS[kind]}"
    if tree.oid(path) and tree.names(path):
        return f"{path} {_KINDS['folder']}"
    return f"there is no file {path} in the repository"
