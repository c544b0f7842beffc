"""Which commits need a signature before a tip is taken, and the tags that may carry it for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitops_mvd.config.settings.repository import Verify
from gitops_mvd.core.errors import RevisionRefused
from gitops_mvd.git.address import BRANCH
from gitops_mvd.git.command import Command
from gitops_mvd.git.mirror import Mirror
from gitops_mvd.git.signatures import Examiner, examining

HINT = "git commit -S, with a key that `verify` allows"
TAGS = "refs/mvd/tags/"
MOST_TAGS = 50  # that point at one commit, and may have to be looked at


@dataclass
class Guard:
    """Lets no commit through without the signature that the settings want, if they want any."""

    verify: Verify | None
    git: Command
    seen: frozenset[str] | None = None  # the tags that were looked at; None where they do not matter

    def ready(self) -> None:
        """Raises Unavailable where this server lacks what is needed."""
        if self.verify:
            with examining(self.verify, self.git):
                pass

    def admit(self, mirror: Mirror, known: str, tip: str, ask: bool = True) -> str | None:
        """Raises RevisionRefused where a signature is missing on the way from `known`, "" at first, to the tip.

        Returns the tag that has it, "" where the mode is another, None where more history is needed to tell.  Only with
        `ask` are tags looked for that the mirror does not have yet.
        """
        if not self.verify:
            return ""
        with examining(self.verify, self.git) as examiner:
            if self.verify.mode == "tag":
                return self._admit_by_tag(mirror, tip, examiner, ask)
            if self.verify.mode == "every" and known not in ("", tip):
                return self._admit_every(mirror, known, tip, examiner)
            if fault := examiner.fault(mirror.place, "commit", tip):
                raise RevisionRefused(f"commit {tip[:7]} {fault}", tip, HINT)
        return ""

    def vouches(self, mirror: Mirror, commit: str) -> bool:
        """Is that commit signed itself, as the settings want it?  True if they want nothing."""
        if not self.verify:
            return True
        with examining(self.verify, self.git) as examiner:
            if not examiner.fault(mirror.place, "commit", commit):
                return True
            try:
                return self.verify.mode == "tag" and bool(self._admit_by_tag(mirror, commit, examiner, ask=False))
            except RevisionRefused:
                return False

    def keep(self, mirror: Mirror, tag: str) -> None:
        """Of the tags that were fetched, keep the one that let the tip through."""
        for ref in mirror.say("for-each-ref", "--format=%(refname)", TAGS).split():
            if ref != f"{TAGS}{tag}":
                mirror.say("update-ref", "-d", ref)

    def tags(self, tip: str) -> Mapping[str, str]:
        """The annotated tags that point at the tip on the server: id -> name.  Only asked where tags are wanted."""
        if not self.verify or self.verify.mode != "tag":
            return {}
        found = self.git.refs("refs/tags/*")
        names = [ref.removeprefix("refs/tags/") for ref in found if found.get(f"{ref}^{{}}") == tip]
        return {found[f"refs/tags/{name}"]: name for name in sorted(names)[:MOST_TAGS] if BRANCH.fullmatch(name)}

    def _admit_by_tag(self, mirror: Mirror, tip: str, examiner: Examiner, ask: bool) -> str:
        _, kept, _ = mirror.run("for-each-ref", "--format=%(objectname)", TAGS)
        if good := next((tag for tag in kept.split() if not examiner.tag_fault(mirror.place, tag, tip)), ""):
            return good
        tags = self._fetch(mirror, tip) if ask else {}
        faults = {tag: examiner.tag_fault(mirror.place, tag, tip) for tag in tags}
        if good := next((tag for tag, fault in faults.items() if not fault), ""):
            return good
        bad = next((f": tag {tags[tag]} {fault}" for tag, fault in faults.items()), "")
        raise RevisionRefused(f"commit {tip[:7]} has no good signed tag{bad}", tip, "git tag -s, and push the tag")

    def _fetch(self, mirror: Mirror, tip: str) -> Mapping[str, str]:
        tags = self.tags(tip)
        self.seen = frozenset(tags)
        if tags:
            mirror.fetch(0, [f"refs/tags/{name}:{TAGS}{oid}" for oid, name in tags.items()])
        return tags

    def _admit_every(self, mirror: Mirror, known: str, tip: str, examiner: Examiner) -> str | None:
        unseen, cut = self._unseen(mirror, known, tip), mirror.cut()
        if cut.intersection(unseen):
            return None  # behind the cut may be commits that nobody looked at
        for commit in unseen:
            if fault := examiner.fault(mirror.place, "commit", commit):
                if cut and commit != tip and not mirror.descends(commit, known):
                    return None  # it may be older than the known one, by a way that is cut off
                comes = f", and comes with {tip[:7]}" if commit != tip else ""
                raise RevisionRefused(f"commit {commit[:7]} {fault}{comes}", tip, HINT)
        return ""

    def _unseen(self, mirror: Mirror, known: str, tip: str) -> list[str]:
        """The tip, and all that came with it since the known commit, by whatever way."""
        status, out, _ = mirror.run("rev-list", tip, f"^{known}")
        if status:  # a rewind that is allowed, to where nothing is known of the known one
            _, out, _ = mirror.run("rev-list", tip)
        return out.split() or [tip]
