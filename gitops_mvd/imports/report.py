"""What an import says: every change with its place and reason, what is left to an operator, and it as JSON.  Pure."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from gitops_mvd.imports.draft import HOST_FOLDERS, Change, Place, Question, Request, Secret, several
from gitops_mvd.imports.plan import Imported
from gitops_mvd.imports.source import FILE, FOLDER, MISSING

MOST_FILES = 30  # of the list of files
SECRETS_FOLDER = "/etc/gitops-mvd/secrets"
_INDENT = "    "


def lines(found: Imported) -> Iterator[str]:
    """The report of an import that was written."""
    many = f"{found.services} service{'' if found.services == 1 else 's'}"
    yield f"apps/{found.app}: {many}, from {' and '.join(posixpath.join(found.root, name) for name in found.sources)}"
    yield from _section("Files", _files(found))
    yield from _section("Changed", _grouped(found.changes))
    yield from _section("Secrets, which are not in Git: write them on each server", _secret_files(found))
    yield from _section("Secrets in variables: decide on each", _secret_variables(found))
    yield from _section("Data that the host keeps", _data(found))
    yield from _section("Volumes", _volumes(found))
    yield from _section("Good to know", _grouped(found.notes))
    yield from _section(
        "Not taken", [f"{name}, which `docker compose` reads only if it is named" for name in found.others]
    )
    yield from _section("Next", _next(found))


def refusal(found: Imported, request: Request) -> Iterator[str]:
    """Why nothing was written, and how to answer."""
    yield from (str(problem) for problem in found.problems)
    yield from (_question(question) for question in found.questions)
    counts = ((len(found.problems), "problem"), (len(found.questions), "question"))
    said = [f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts if number]
    yield f"{several(said)}: nothing was written."
    if found.questions:
        yield f"Answer with: {command(found, request)}"
    if found.keepable:
        kept = " ".join(f"--not-secret {shlex.quote(name)}" for name in found.keepable)
        yield f"Keep in Git what may be known to all who read it: {command(found, request)} {kept}"


def command(found: Imported, request: Request) -> str:
    """The command to run again, with a place for every answer; a value that is taken for a secret is left out."""
    words = ["mvd", "import", request.path]
    words += ["--app", request.app] if request.app else []
    words += [word for name, image in request.images.items() for word in ("--image", f"{name}={image}")]
    values = {name: value for name, value in request.values.items() if name not in request.refused}
    words += [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    words += [word for name in sorted(request.not_secret) for word in ("--not-secret", name)]
    words += ["--unset-empty"] if request.unset_empty else []
    asked: list[str] = []
    for question in found.questions:
        option, placeholder = ("--image", "IMAGE") if question.kind == "image" else ("--set", "VALUE")
        asked += [option, f"{shlex.quote(question.name)}={placeholder}"]
    return " ".join([shlex.join(words), *asked])


def as_json(found: Imported, request: Request, folder: str, written: bool) -> dict[str, Any]:
    """The report for programs."""
    return {
        "app": found.app,
        "folder": folder,
        "written": written,
        "from": [posixpath.join(found.root, name) for name in found.sources],
        "files": [{"file": name, "from": file.origin} for name, file in found.files.items()],
        "changes": [_change_json(change) for change in found.changes],
        "secrets": [
            {
                **_place_json(it.at),
                "name": it.name,
                "services": list(it.services),
                "why": it.why,
                "value_in": str(it.origin),
                "path": it.path,
                "variable": it.variable,
            }
            for it in found.secrets
        ],
        "data": [
            {
                **_place_json(it.at),
                "source": it.source,
                "path": _host(found, it.folder),
                "kind": it.kind,
                "services": list(it.services),
                "why": it.why,
            }
            for it in found.data
        ],
        "volumes": [{**_place_json(at), "was": was, "is": now} for at, was, now in found.volumes],
        "notes": [_change_json(note) for note in found.notes],
        "questions": [
            {"kind": it.kind, "name": it.name, "hint": it.hint, "places": [_place_json(at) for at in it.places]}
            for it in found.questions
        ],
        "problems": [{"file": it.file, "line": it.line, "key": it.key, "message": it.message} for it in found.problems],
        "not_taken": list(found.others),
        "command": command(found, request) if found.questions else "",
    }


def _place_json(at: Place) -> dict[str, Any]:
    return {"file": at.file, "line": at.line, "key": at.key}


def _change_json(change: Change) -> dict[str, Any]:
    return {**_place_json(change.at), "what": change.what, "why": change.why}


def _section(title: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield ""
        yield title
        for entry in entries:
            first, *more = entry.split("\n")
            yield f"  {first}"
            yield from (f"  {_INDENT}{line}" for line in more)


def _grouped(changes: Sequence[Change]) -> list[str]:
    """Changes or notes in the order of their files, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for change in changes:
        key = f"{change.at.key}: " if change.at.key else ""
        by_reason.setdefault(change.why, []).append(f"{change.at}: {key}{change.what}")
    rows = []
    for why, places in by_reason.items():
        rows += [*places[:-1], f"{places[-1]}\n→ {why}" if why else places[-1]]
    return rows


def _files(found: Imported) -> list[str]:
    changed = {change.at.file for change in found.changes}
    width = max((len(name) for name in found.files), default=0)
    rows = []
    for name, file in found.files.items():
        origin = f"from {file.origin}" if file.origin and file.origin != name else ""
        state = "new" if not file.origin else "changed" if file.origin in changed else "as it is"
        rows.append(f"{name:<{min(width, 48)}}  {state}{', ' if origin else ''}{origin}")
    return [*rows[:MOST_FILES], f"... and {len(rows) - MOST_FILES} more"] if len(rows) > MOST_FILES else rows


def _question(question: Question) -> str:
    first, *more = question.places
    key = f"{first.key}: " if first.key else ""
    hint = f"; {question.hint}" if question.hint else ""
    also = f" (also in {several([str(at) for at in more[:5]])}{' and more' if len(more) > 5 else ''})" if more else ""
    if question.kind == "image":
        return f"{first}: {key}which image does {question.name} run? A server builds none{hint}"
    return (
        f"{first}: {key}which value has {question.name}? It is not set, so `docker compose` warns and makes it empty, "
        f"as --unset-empty does{hint}{also}"
    )


# ---- what is left to an operator -------------------------------------------------------------------------------------


def _host(found: Imported, folder: str) -> str:
    return f"{HOST_FOLDERS}/{found.app}/{folder}"


def _secret_files(found: Imported) -> list[str]:
    files = {secret.path: secret for secret in found.secrets if secret.path}
    if not files:
        return []
    folders = sorted({posixpath.dirname(path) for path in files})
    root = posixpath.dirname(folders[0])
    made = f"install -d -m 700 {shlex.quote(root)} && install -d -m 755 {shlex.join(folders)}"
    commands = [_write(found, path, secret) for path, secret in sorted(files.items())]
    return [
        made,
        *commands,
        "A command with /dev/stdin reads the value from the terminal: type it, and Ctrl-D twice, so that no line end",
        "gets into it. Only root enters the folder; in a container, any user may read what is mounted.",
    ]


def _write(found: Imported, path: str, secret: Secret) -> str:
    if not secret.origin.line:
        source = posixpath.normpath(posixpath.join(found.root, secret.origin.file))
        return f"install -m 444 {shlex.quote(source)} {shlex.quote(path)}"
    return f"install -m 444 /dev/stdin {shlex.quote(path)}    # {_origin(secret)}"


def _origin(secret: Secret) -> str:
    name = secret.origin.key.rpartition(".")[2] or secret.name
    if name in ("command", "entrypoint", "test"):
        return f"the password in {secret.origin}"
    return f"{secret.name} in {secret.origin}" if name == secret.name else f"{name} in {secret.origin}"


def _secret_variables(found: Imported) -> list[str]:
    names: dict[str, list[Secret]] = {}
    for secret in found.secrets:
        if secret.variable:
            names.setdefault(secret.variable, []).append(secret)
    if not names:
        return []
    rows = []
    for name, secrets in sorted(names.items()):
        services = several(sorted({service for secret in secrets for service in secret.services}))
        origins = several(sorted({str(secret.origin) for secret in secrets}))
        rows.append(f"{name}, of {services or 'no service'}: its value is in {origins}")
    name = min(names)
    folder = f"{HOST_FOLDERS}/{found.app}/secrets/SERVICE"
    return [
        *rows,
        "Until the host has a variable of that name, the service starts without it, or with an empty one.",
        f"- If the program can read a file, let it: mount ./secrets/SERVICE:/run/secrets:ro, and write {folder}/NAME.",
        f'- Otherwise write `{name}: "{{file://{found.app}.{name}}}"` in `environment`, and the value on each server:',
        f"  install -m 600 /dev/stdin {SECRETS_FOLDER}/{found.app}.{name}",
        f"- A value in apps/{found.app}/.env, or under `variables` in fleet.yaml, is in Git, for all who can read it.",
    ]


def _data(found: Imported) -> list[str]:
    there = [it for it in found.data if it.source and it.kind in (FILE, FOLDER)]
    text = [f"{_host(found, it.folder)}, for {several(it.services)} ({it.at}): {it.why}" for it in found.data]
    if there:
        copies = (_copy(found, it.source, it.folder, it.kind) for it in there)
        text.append("\n".join(("Stop the project, and copy what there is:", _stop(found), *copies)))
        sources = shlex.quote(there[0].source + ("/" if there[0].kind == FOLDER else ""))
        target = shlex.quote(_host(found, there[0].folder) + ("/" if there[0].kind == FOLDER else ""))
        text.append(f"To another server, copy with: rsync -a --mkpath {sources} SERVER:{target}")
    others = (it for it in found.data if it.kind not in (FILE, FOLDER, MISSING))
    text += (f"{_host(found, it.folder)} is {it.kind} in the project: make it there by hand" for it in others)
    return text


def _stop(found: Imported) -> str:
    return f"docker compose --project-directory {shlex.quote(found.root)} stop"


def _copy(found: Imported, source: str, folder: str, kind: str) -> str:
    target = _host(found, folder)
    if kind == FOLDER:
        return f"mkdir -p {shlex.quote(target)} && cp -a {shlex.quote(source)}/. {shlex.quote(target)}/"
    return f"mkdir -p {shlex.quote(posixpath.dirname(target))} && cp -a {shlex.quote(source)} {shlex.quote(target)}"


def _volumes(found: Imported) -> list[str]:
    if not found.volumes:
        return []
    _, was, now = found.volumes[0]
    return [
        *(f"{was}{f' becomes {now}' if now != was else ''} ({at})" for at, was, now in found.volumes),
        "On the server where the project runs now, a volume can be used as it is: write `external: true` and, for "
        f"example, `name: {was}` below it in compose.yaml.",
        "On another server, the first deploy makes it empty. Fill each one then, with the services stopped:\n"
        f"docker run --rm -v {was}:/from:ro alpine tar -C /from -c . | "
        f"ssh SERVER docker run --rm -i -v {now}:/to alpine tar -C /to -x",
    ]


def _next(found: Imported) -> list[str]:
    app = shlex.quote(found.app)
    return [
        f"git add apps/{app} && git commit -m 'Add {found.app}'    # a merge to the branch deploys it",
        "mvd plan    # on a server: what it would do",
    ]
