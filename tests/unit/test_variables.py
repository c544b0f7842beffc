"""Where variables come from, what an unset one is, and what is told beside the mistakes."""

import pytest

from gitops_mvd.config.yamltree import Sink
from gitops_mvd.core.model import App, Problem
from gitops_mvd.manifest import load, read_fleet, validate
from gitops_mvd.manifest.asked import Asked
from gitops_mvd.manifest.dotenv import check_variable, parse_env
from gitops_mvd.manifest.interpolate import Unset, Variables, substitute
from gitops_mvd.manifest.reading import read_app
from tests.unit.memory_tree import MemoryTree

COMPOSE = "apps/shop/compose.yaml"
LENIENT = "hosts: {web1: }\napps: {shop: {unset: empty}}\n"


def app(files: dict[str, str]) -> App:
    tree = MemoryTree(files)
    apps, broken = load(tree, read_fleet(tree).host("web1"))
    assert not broken
    return apps[0]


def environment(files: dict[str, str]) -> dict[str, str]:
    return dict(app(files).services[0].environment)


def notes(files: dict[str, str]) -> list[Problem]:
    tree = MemoryTree(files)
    reading = read_app(tree, "shop", Asked(read_fleet(tree).host("web1")), {})
    assert reading.problems == ()
    return [it.problem for it in reading.found if it.note]


def service(keys: str) -> str:
    return f"services:\n  web:\n    image: nginx\n    {keys}\n"


def test_the_message_about_an_unset_variable_says_what_to_write() -> None:
    (problem,) = validate(
        MemoryTree({COMPOSE: service("command: [sh, -c, 'echo $HOSTNAME']"), "fleet.yaml": "hosts: {a: }"})
    )
    assert problem.message == (
        "the variable HOSTNAME is not set: give it a value in fleet.yaml or .env, or write ${HOSTNAME:-...} for a "
        "default, or $$HOSTNAME if the text is meant for a shell in the container"
    )


def test_an_app_can_have_unset_variables_empty() -> None:
    files = {
        "fleet.yaml": LENIENT,
        COMPOSE: service("environment: {A: 'x${NONE}y', B: $OF_DOTENV, D: '${NONE-default}'}\n    env_file: web.env"),
        "apps/shop/.env": "OF_DOTENV=<$NEITHER>\n",
        "apps/shop/web.env": "C=[$NONE]\n",
    }
    assert environment(files) == {"A": "xy", "B": "<>", "C": "[]", "D": "default"}
    assert notes(files) == [
        Problem(
            "apps/shop/.env", 1, "", "the variable NEITHER is not set, and so empty here (`unset: empty` in fleet.yaml)"
        ),
        Problem(
            COMPOSE,
            4,
            "services.web.environment.A",
            "the variable NONE is not set, and so empty here (`unset: empty` in fleet.yaml)",
        ),
    ]


def test_a_required_variable_stays_required_where_unset_ones_are_empty() -> None:
    files = {"fleet.yaml": LENIENT, COMPOSE: service("environment: {A: '${NONE:?write it}'}")}
    assert [problem.message for problem in validate(MemoryTree(files))] == ["the variable NONE is required: write it"]


def test_only_the_app_that_says_so_has_unset_variables_empty() -> None:
    files = {
        "fleet.yaml": LENIENT,
        COMPOSE: service("hostname: x$NONE"),
        "apps/bank/compose.yaml": service("hostname: x$NONE"),
    }
    assert [problem.file for problem in validate(MemoryTree(files))] == ["apps/bank/compose.yaml"]


def test_fleet_yaml_names_only_apps_that_there_are() -> None:
    tree = MemoryTree({"fleet.yaml": "hosts: {web1: }\napps:\n  shpo: {unset: empty}\n", COMPOSE: service("tty: true")})
    assert validate(tree) == [Problem("fleet.yaml", 3, "apps.shpo", "there is no app shpo, did you mean `shop`?")]
    assert [app.name for app in load(tree, read_fleet(tree).host("web1"))[0]] == ["shop"]


def test_the_project_name_is_the_name_of_the_folder() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: }",
        COMPOSE: service("environment: [COMPOSE_PROJECT_NAME, 'A=$COMPOSE_PROJECT_NAME']"),
        "apps/shop/.env": "# named\nCOMPOSE_PROJECT_NAME=other\n",
    }
    assert environment(files) == {"COMPOSE_PROJECT_NAME": "shop", "A": "shop"}
    message = "COMPOSE_PROJECT_NAME is always 'shop', the name of the app's folder"
    assert notes(files) == [Problem("apps/shop/.env", 2, "", message)]


def test_a_variable_of_compose_in_fleet_yaml_is_told_to_be_in_vain() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: {variables: {COMPOSE_PROJECT_NAME: other}}}",
        COMPOSE: service("hostname: $COMPOSE_PROJECT_NAME"),
    }
    assert app(files).services[0].run["hostname"] == "shop"
    message = "the variable COMPOSE_PROJECT_NAME is always 'shop', the name of the app's folder"
    assert notes(files) == [Problem("fleet.yaml", 1, "", message)]


def test_what_compose_would_read_of_its_own_variables_is_noted() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: }",
        COMPOSE: service("tty: true"),
        "apps/shop/.env": "A=1\nCOMPOSE_FILE=a.yaml:b.yaml\nCOMPOSE_PROJECT_NAME=shop\nDOCKER_DEFAULT_PLATFORM=\n",
    }
    message = "COMPOSE_FILE is not read: an app is its Compose file, with the overrides of a host beside it"
    assert notes(files) == [Problem("apps/shop/.env", 2, "", message)]


def test_the_current_folder_is_that_of_the_file() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: }",
        COMPOSE: service("volumes: ['${PWD}/site:/site:ro', '$PWD/more.conf:/more.conf:ro']"),
        "apps/shop/site/index.html": "hello",
        "apps/shop/more.conf": "more",
    }
    assert [(file.target, dict(file.files)) for file in app(files).services[0].files] == [
        ("/site", {"index.html": "hello"}),
        ("/more.conf", {"": "more"}),
    ]
    assert notes(files) == []


def test_the_current_folder_in_another_place_than_a_path_is_noted() -> None:
    files = {"fleet.yaml": "hosts: {web1: }", COMPOSE: service("environment: {A: $PWD, B: $$PWD, C: $PWDX}")}
    files["apps/shop/.env"] = "PWDX=1\n"
    assert environment(files) == {"A": ".", "B": "$PWD", "C": "1"}
    message = "PWD is `.` here, the folder of this file, which is at no path of the host"
    assert notes(files) == [Problem(COMPOSE, 4, "services.web.environment.A", message)]


def test_a_name_alone_is_passed_on_if_it_is_set_and_left_out_otherwise() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: {variables: {SET: 1, EMPTY: ''}}}",
        COMPOSE: service("environment: [SET, EMPTY, UNSET, OF_FILE, TWICE=1]\n    env_file: web.env"),
        "apps/shop/web.env": "SET\nNOT_SET\nOF_FILE=x\nOTHER=$SET\nTWICE=2\n",
    }
    assert environment(files) == {"SET": "1", "EMPTY": "", "OTHER": "1", "TWICE": "1"}
    files[COMPOSE] = service("environment: {SET: , EMPTY: null, UNSET: ~}")
    assert environment(files) == {"SET": "1", "EMPTY": ""}


def test_an_env_file_uses_the_variables_of_the_host_then_of_the_service_then_its_own() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: {variables: {A: host}}}",
        COMPOSE: service("environment: {A: service, B: service}\n    env_file: [one.env, two.env]"),
        "apps/shop/one.env": "A=file\nB=file\nC=file\nONE=$A $B $C\n",
        "apps/shop/two.env": "TWO=$A $B $C\n",
    }
    assert environment(files) == {
        **{"A": "service", "B": "service", "C": "file"},
        **{"ONE": "host service file", "TWO": "host service file"},
    }


def test_a_label_file_uses_only_the_labels_above_it() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: {variables: {A: host}}}",
        COMPOSE: service("label_file: labels.env"),
        "apps/shop/labels.env": "B=1\nC=$B\nD=$A\n",
    }
    (problem,) = validate(MemoryTree(files))
    assert str(problem) == (
        "apps/shop/labels.env:3: has the variable A, which is no label above it: a label file knows no other variables"
    )


def test_a_value_can_have_several_lines() -> None:
    files = {
        "fleet.yaml": "hosts: {web1: }",
        COMPOSE: service('environment: {KEY: $KEY, TEXT: "a\\nb"}\n    env_file: web.env'),
        "apps/shop/.env": 'KEY="-----BEGIN KEY-----\nabc=\n-----END KEY-----"\nAFTER=1\n',
        "apps/shop/web.env": "ONE='first\nsecond'  # done\nTWO=\"$AFTER\\nx\"\n",
    }
    assert environment(files) == {
        "KEY": "-----BEGIN KEY-----\nabc=\n-----END KEY-----",
        "TEXT": "a\nb",
        "ONE": "first\nsecond",
        "TWO": "1\nx",
    }


def test_a_quote_that_is_not_closed_is_one_mistake() -> None:
    files = {COMPOSE: service("environment: {A: $A, B: $B}"), "apps/shop/.env": "A='open\nB=1\n"}
    assert validate(MemoryTree(files)) == [Problem("apps/shop/.env", 1, "", "has a quote that is not closed")]


# What compose-go 2.16.2 makes of them, but for None: refused here, as Compose takes something else than is meant.
ENV_FILE: dict[str, dict[str, str] | None] = {
    "K=x # c": {"K": "x"},
    "K=x#c": {"K": "x#c"},
    "K=#ff0000": {"K": "#ff0000"},
    "K= # c": None,
    "K=# c": None,
    "K=x\t# c": None,
    'K="a" # c': {"K": "a"},
    'K="a"#c': {"K": "a"},
    'K="a" b': None,
    'K="a" b=c': None,
    "export K=x": {"K": "x"},
    "export=x": {"export": "x"},
    "K : v": {"K": "v"},
    "K: v": {"K": "v"},
    " K = v ": {"K": "v"},
    "K=a\r": {"K": "a"},
    "\ufeffK=1": {"K": "1"},
    "K='it\\'s'": {"K": "it's"},
    "K='a\\\\b'": {"K": "a\\\\b"},
    'K="a\\nb\\tc\\\\d\\"e\\$X"': {"K": 'a\nb\tc\\d"e$X'},
    'K="\\d\\w"': {"K": "\\d\\w"},
    'K="\\a\\b\\f\\v\\c"': {"K": "\x07\x08\x0c\x0b\\c"},
    'K="\\0123\\012\\0"': {"K": "S\\12\\"},
    "K=a\\nb": {"K": "a\\nb"},
    "K=$": {"K": "$"},
    "K=$$X": {"K": "$X"},
    "K='$X'": {"K": "$X"},
    "K=\\$A": {"K": "\\va"},
    'K=a"b"': {"K": 'a"b"'},
    "K==x": {"K": "=x"},
    "1A=x": {"1A": "x"},
    "A[0]=x": {"A[0]": "x"},
    "A": {"A": "va"},
    "UNSET": {},
    "=x": None,
    "A B=1": None,
    "A/B=1": None,
    'K="open': None,
    "K=${": None,
}


@pytest.mark.parametrize("text", ENV_FILE)
def test_an_env_file_is_read_as_compose_reads_it(text: str) -> None:
    sink: Sink = []
    found = parse_env("env", f"{text}\n".encode(), {"A": "va"}, sink)
    assert bool(sink) == (ENV_FILE[text] is None)
    assert sink or found == ENV_FILE[text]


DOLLARS = {
    "$": "$",
    "a$": "a$",
    "$1 $. $- $)": "$1 $. $- $)",
    "^a$|^b$": "^a$|^b$",
    "$$$A": "$va",
    "${A:-$${B}}": "va",
    "${U:-$${B}}": "${B}",
    '${U:-{"a": 1}} ${A}': '{"a": 1} va',
    "${U:-{}}": "{}",
    "${A+{x}}": "{x}",
}


@pytest.mark.parametrize("text", DOLLARS)
def test_dollars_and_braces_are_read_as_compose_reads_them(text: str) -> None:
    assert substitute(text, Variables({"A": "va"})) == DOLLARS[text]


@pytest.mark.parametrize("text", ["${A:-{}} ${U:-{}}", "${U:-{{.Name}}}", "${U:-a\nb}", "${", "${}", "${1}", "${A"])
def test_a_brace_that_compose_would_close_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^has "):
        substitute(text, Variables({"A": "va"}))


TWICE = "".join(f"A{n}=$B$B\n" for n in range(200))
WEB = "services:\n  web: {image: nginx, env_file: [web.env, more.env]}\n"
THERE = "    deploy: {placement: {constraints: [node.hostname == web2]}}\n"


@pytest.mark.parametrize(
    ("files", "at"),
    [
        ({"apps/shop/.env": "".join(f"A{n}=${{B:-x}}${{B:?x}}\n" for n in range(200))}, "apps/shop/.env:140"),
        ({"apps/shop/web.env": TWICE}, "apps/shop/web.env:140"),
        ({"apps/shop/web.env": TWICE[:1200], "apps/shop/more.env": TWICE[:1200]}, "apps/shop/more.env:"),
        (
            {COMPOSE: service("command: [" + ", ".join(['"$B$B"'] * 200) + "]")},
            f"{COMPOSE}:4: ",
        ),
        ({COMPOSE: f"{service('env_file: web.env')}{THERE}", "apps/shop/web.env": TWICE}, "apps/shop/web.env:140"),
    ],
    ids=["dotenv", "env-file", "two-env-files", "values", "of-another-host"],
)
def test_variables_that_make_an_app_too_long_are_its_one_mistake(files: dict[str, str], at: str) -> None:
    fleet = f"hosts: {{web1: , web2: }}\ndefaults: {{variables: {{B: {'b' * 60_000}}}}}\n"
    tree = MemoryTree({COMPOSE: WEB, "apps/shop/web.env": "", "apps/shop/more.env": "", "fleet.yaml": fleet, **files})
    apps, broken = load(tree, read_fleet(tree).host("web1"))
    assert apps == ()
    [problem] = broken["shop"]
    assert str(problem).startswith(at)
    assert problem.message == "with this the app has more than 16 MiB of variables filled in"


def test_what_an_app_puts_in_is_counted_for_itself() -> None:
    value = "b" * 60_000
    files = {f"apps/{name}/web.env": TWICE[: TWICE.index("A100=")] for name in ("a", "b")}
    files |= {f"apps/{name}/compose.yaml": service("env_file: web.env") for name in ("a", "b")}
    tree = MemoryTree({"fleet.yaml": f"hosts: {{web1: }}\ndefaults: {{variables: {{B: {value}}}}}\n", **files})
    apps, broken = load(tree, read_fleet(tree).host("web1"))
    assert not broken
    assert [app.services[0].environment["A99"] for app in apps] == [value * 2] * 2


def test_a_note_on_a_variable_of_compose_has_the_line_that_sets_it() -> None:
    env = "COMPOSE_FILES=x\nTEXT='\nCOMPOSE_FILE=no'\nexport COMPOSE_FILE = a.yaml\nCOMPOSE_PROJECT_NAME=other\n"
    told = notes({"fleet.yaml": LENIENT, COMPOSE: service(""), "apps/shop/.env": f"{env}# COMPOSE_FILE=\n"})
    assert {note.message.split()[0]: note.line for note in told} == {"COMPOSE_FILE": 4, "COMPOSE_PROJECT_NAME": 5}


def test_substitute_tells_which_variables_were_left_empty() -> None:
    left_empty: list[str] = []
    assert substitute("$A$B${C:-$D}", Variables({"A": "1"}, unset_is_empty=True), left_empty) == "1"
    assert left_empty == ["B", "D"]
    with pytest.raises(Unset):
        substitute("$B", Variables({"A": "1"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        (" A", "x"),
        ("A ", "x"),
        ("A=B", "x"),
        ("A\n", "x"),
        ("A", "a\0b"),
        ("A", "\udc80"),
        ("A", "x" * 131070),
    ],
)
def test_no_container_gets_a_variable_that_the_kernel_does_not_take(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"^(has|is) "):
        check_variable(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "x" * 131069), ("1A", ""), ("Logging:Level", "a\nb"), ("a.b-c", "ü"), ("with space", "x"), ("A", "\r\n")],
)
def test_a_container_gets_every_other_variable(name: str, value: str) -> None:
    check_variable(name, value)
