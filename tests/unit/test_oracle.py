"""What compose-go reads of the files in oracle/ is what gitops-mvd reads, or it says so.

`make oracle` asks compose-go again, and many more files; `make oracle ACCEPT=1` records what it answers.
"""

import pytest

from tests.oracle.compare import differences, ours
from tests.oracle.normal import Form
from tests.oracle.recorded import Case, cases, recorded


@pytest.mark.parametrize(("case", "answer"), [pytest.param(*both, id=both[0].name) for both in recorded()])
def test_a_file_is_read_as_compose_reads_it_or_told_why_not(case: Case, answer: Form) -> None:
    read = ours(case.asked, case.strict)
    assert [problem.message for problem in read.problems] == case.refused
    assert [note.message for note in read.notes] == case.noted
    if not case.refused and "error" not in answer:
        different = {path: mine for path, _, mine in differences(answer, read)}
        assert different == case.ours
    if not case.refused and ("error" in answer or case.ours):
        assert case.why or case.noted


def test_there_are_cases_enough_and_each_has_a_name_of_its_own() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 200
    assert len(recorded()) == len(names)
