"""`make oracle`: a real kube-apiserver takes what is exported, field by field, or says why not."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from gitops_mvd.exports.app import Choices
from gitops_mvd.exports.remarks import plain
from gitops_mvd.exports.report import Export, export
from gitops_mvd.exports.source import Source, read
from gitops_mvd.git.tree import FolderTree
from tests.oracle.kubernetes import crds
from tests.oracle.kubernetes.server import Cluster, build, running
from tests.unit.test_export import CASES, EXAMPLE, MANIFESTS
from tests.unit.test_export_properties import sources
from tests.unit.test_manifest import repository


def main() -> int:
    """The number of findings, at most 100."""
    options = _options()
    findings: list[str] = []
    if options.accept:
        crds.RECORDED.write_text(crds.recorded())
    elif crds.RECORDED.read_text() != crds.recorded():
        findings.append(f"{crds.RECORDED}: the modules have other schemas: run `make oracle ACCEPT=1`")
    folder = options.folder.resolve()  # `go` is started elsewhere
    build(folder)
    counts: Counter[str] = Counter()
    with running(folder) as cluster:
        for definition in crds.definitions():
            cluster.define(definition)
        for name, one in _known():
            findings += [f"{name}: {why}" for why in _refused(cluster, one, counts)]
        findings += _refused_of_any(cluster, options.seed, options.count, counts)
    for line in findings:
        print(line)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{counts.total()} documents ({told}); {len(findings)} findings (seed {options.seed})")
    return min(len(findings), 100)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.kubernetes", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to build etcd and kube-apiserver")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other apps")
    parser.add_argument("--count", type=int, default=300, help="how many apps to make")
    parser.add_argument("--accept", action="store_true", help="record the schemas that the modules have")
    return parser.parse_args()


def _known() -> Iterator[tuple[str, Export]]:
    """The example, and the repositories of the tests."""
    for source in read(FolderTree(EXAMPLE)):
        yield f"example-repo {source.name}", export(source, Choices())
    for case in (*CASES, *MANIFESTS):
        for source in read(repository(case)):
            yield f"{case.name} {source.name}", export(source, Choices())


def _refused(cluster: Cluster, one: Export, counts: Counter[str]) -> Iterator[str]:
    """Why documents are refused, each with what it is; the namespace of the app stays."""
    for body in one.documents:
        document = plain(body)
        counts[document["kind"]] += 1
        if why := cluster.create(document, keep=document["kind"] == "Namespace"):
            yield f"{document['kind']} {document['metadata']['name']}: {why}"


def _refused_of_any(cluster: Cluster, number: int, count: int, counts: Counter[str]) -> list[str]:
    """What is refused of apps that are made at random, each reason once."""
    findings: dict[str, str] = {}

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(sources())
    def ask(source: Source) -> None:
        for why in _refused(cluster, export(source, Choices()), counts):
            findings.setdefault(why.partition(": ")[2][:160], why)

    ask()
    return [f"made at random: {why}" for why in findings.values()]


if __name__ == "__main__":
    sys.exit(main())
