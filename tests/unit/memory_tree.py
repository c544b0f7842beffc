"""A config repository in a dict."""

from collections.abc import Mapping, Sequence

from gitops_mvd.core.model import digest


class MemoryTree:
    """A Tree of `files`, path to content; `reads` has every path that was read.

    `links` and `submodules` are paths of `files` that are one, whatever their content.
    """

    def __init__(
        self, files: Mapping[str, str | bytes], *, links: Sequence[str] = (), submodules: Sequence[str] = ()
    ) -> None:
        self.files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        self.apart = dict.fromkeys(links, "link") | dict.fromkeys(submodules, "submodule")
        self.reads: list[str] = []

    def read(self, path: str) -> bytes:
        if path not in self.files or path in self.apart:
            raise FileNotFoundError(path)
        self.reads.append(path)
        return self.files[path]

    def names(self, folder: str) -> Sequence[str]:
        below = [path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/") or not folder]
        return sorted({first + slash for first, slash, _ in (path.partition("/") for path in below)})

    def oid(self, path: str) -> str:
        found = {name: text.hex() for name, text in self.files.items() if name == path or name.startswith(f"{path}/")}
        return digest(found) if found else ""

    def kind(self, path: str) -> str:
        if path in self.files:
            return self.apart.get(path, "file")
        return "folder" if self.names(path) else ""
