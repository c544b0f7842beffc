"""Environments of services, with env files: what is secret in them becomes a reference.  Pure.

A secret goes one of two ways.  An image that is known to read a variable from a file gets the path of a file that the
host keeps outside of Git.  Any other variable keeps its name alone, and takes its value from the host's variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitops_mvd.core.secret_words import is_telling, secret_name
from gitops_mvd.imports.document import Pair, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Part, Place, Secret, several
from gitops_mvd.imports.folders import IN_CONTAINER, Folders
from gitops_mvd.imports.images import file_variable
from gitops_mvd.imports.load import Loader
from gitops_mvd.imports.secrets import is_a_name, last_word, secret_form, why_secret
from gitops_mvd.imports.variables import EnvFile, EnvLine, evaluate, names_in, only_name, reference_spans

NOT_IN_GIT = "a secret does not belong in Git"


@dataclass(frozen=True)
class Variable:
    """A variable of an `environment`: a pair of a mapping, or an item of a list (`pair` is None)."""

    file: ComposeFile
    name: str
    written: str | None
    spot: Spot
    pair: Pair | None
    services: tuple[str, ...]
    at: Place

    @property
    def value(self) -> str:
        return evaluate(self.written or "", self.file.variables).text

    def ids(self) -> set[str]:
        """The names by which somebody may say that it is no secret."""
        return {self.name, only_name(self.written or ""), *(f"{service}.{self.name}" for service in self.services)}


def variables_of(draft: Draft) -> list[Variable]:
    """Every variable in an `environment`, once for each place where it is written."""
    found: dict[int, Variable] = {}
    for part in draft.parts():
        environment = part.spot.get("environment")
        if environment is None:
            continue
        for item in environment.real.items or ():
            name, equals, text = item.real.value.partition("=")
            _add(found, draft, part, Variable(part.file, name, text if equals else None, item.real, None, (), _NOWHERE))
        for spot in environment.merged() if environment.real.pairs is not None else ():
            for pair in spot.pairs or ():
                if pair.key.value != "<<" and pair.value.real.scalar:
                    value = None if pair.value.empty else pair.value.real.value
                    _add(found, draft, part, Variable(part.file, pair.key.value, value, pair.value, pair, (), _NOWHERE))
    return list(found.values())


_NOWHERE = Place("", 0)


def _add(found: dict[int, Variable], draft: Draft, part: Part, variable: Variable) -> None:
    known = found.get(id(variable.spot))
    services = tuple(dict.fromkeys((*(known.services if known else ()), *part.services)))
    key = f"services.{services[0]}.environment.{variable.name}"
    line = variable.pair.key if variable.pair else variable.spot
    found[id(variable.spot)] = Variable(
        part.file,
        variable.name,
        variable.written,
        variable.spot,
        variable.pair,
        services,
        draft.place(part.file, line, key),
    )


class Environment:
    """Finds the secrets of a project, and takes them out."""

    def __init__(self, draft: Draft, loader: Loader, folders: Folders) -> None:
        self.draft = draft
        self.folders = folders
        self.loader = loader
        self.variables = variables_of(draft)
        self._names = {(service, variable.name) for variable in self.variables for service in variable.services}
        self._lines: dict[str, Place] | None = None
        self.secret: dict[str, str] = {}  # the variables of `.env` files that are secret, and why
        self._values: set[str] = set()  # of secrets, as far as they are known
        self.moved: set[tuple[str, str]] = set()  # service and variable, for those that it reads from a file now
        self.moved_as: dict[tuple[str, str], str] = {}  # service and variable of Compose -> the file that has its value

    def read_env_files(self) -> None:
        """The files of `env_file` and `label_file`, and where each is now."""
        for part in self.draft.parts():
            for key in ("env_file", "label_file"):
                spot = part.spot.get(key)
                items = spot.real.items if spot and spot.real.items is not None else [spot] if spot else []
                for item in items:
                    self._env_file(part, item.real, key)

    def _env_file(self, part: Part, item: Spot, key: str) -> None:
        draft, file = self.draft, part.file
        required = item.get("required") if item.pairs is not None else None
        spot = item.get("path") if item.pairs is not None else item
        if spot is None or not spot.real.scalar:
            return
        at = draft.place(file, spot.real, f"{part.key}.{key}")
        path = self.loader.path(file, spot.real.value)
        if not path:
            return
        optional = required is not None and required.real.value.lower() == "false"
        if optional and draft.source.look(path).kind == "missing":
            return
        form = item.get("format") if item.pairs is not None else None
        env = self.loader.env(path, file.variables, at, raw=form is not None and form.real.value == "raw")
        if env is None:
            return
        env.container = env.container or key == "env_file"
        env.labels = env.labels or key == "label_file"
        env.needed = True
        self.loader.refer(file, spot.real, path, env.target, at.key)

    # ---- finding -----------------------------------------------------------------------------------------------------

    def find(self) -> list[tuple[Variable, str]]:
        """The secret variables of services with the reason, once it is known which of the `.env` files' are secret."""
        for env in self.draft.env_files.values():
            for line in env.lines:
                if line.value is not None and (why := self.why_line(env, line)):
                    self.secret.setdefault(line.name, why)
                    self._values.update([line.value] if is_telling(line.value) else [])
        found: dict[int, tuple[Variable, str]] = {}
        grown = True
        while grown:
            grown = False
            for variable in self.variables:
                if id(variable) not in found and (why := self._why(variable)):
                    found[id(variable)] = variable, why
                    if is_telling(variable.value):
                        self._values.add(variable.value)
                    grown = True
                    self._spread(variable, why)
        for name in self._namesakes(found):
            self.draft.withheld.allow(name)
        for variable, _ in found.values():
            self.draft.withheld.add(variable.value, variable.name)
        return list(found.values())

    def _namesakes(self, found: Mapping[int, tuple[Variable, str]]) -> set[str]:
        """What is the name of something, too, such as of a user, and so is no secret wherever it stands."""
        names = {
            variable.value for variable in self.variables if id(variable) not in found and is_a_name(variable.name)
        }
        for env in self.draft.env_files.values():
            names |= {line.value for line in env.lines if line.value and is_a_name(line.name)}
        return names

    def why_line(self, env: EnvFile, line: EnvLine) -> str:
        """Why a line of an env file is secret; "" if it is not."""
        if not self.draft.is_secret({line.name, f"{self.draft.shown(env.path)}.{line.name}"}):
            return ""
        name = last_word(line.name) if env.labels else line.name
        why = self.secret.get(line.name) or why_secret(name, line.value or "")
        return why or self._same_as_a_secret(line.name, line.value or "")

    def _same_as_a_secret(self, name: str, value: str) -> str:
        return "it is the same as another secret" if value in self._values and not is_a_name(name) else ""

    def _why(self, variable: Variable) -> str:
        if variable.written is None or not self.draft.is_secret(variable.ids()):
            return ""
        taken = names_in(variable.written) & self.secret.keys()
        if taken - self.draft.given:
            return f"it has the value of {several(sorted(taken))} in it, which is secret"
        if taken and not secret_form(variable.written):
            return ""
        known = {name: "$" for name in self.draft.request.not_secret if name in variable.file.variables}
        value = evaluate(variable.written, {**variable.file.variables, **known})
        missing = value.missing - self.draft.given - self.draft.request.not_secret
        if missing and (word := secret_name(variable.name)):
            return f"its name has {word}"
        if unknown := sorted(name for name in missing if secret_name(name)):
            return f"it takes {several(unknown)}, which is secret by its name"
        return why_secret(variable.name, value.text) or self._same_as_a_secret(variable.name, value.text)

    def _spread(self, variable: Variable, why: str) -> None:
        """The variables that a secret is made of are secret, too, if they are what makes it one."""
        written, variables = variable.written or "", variable.file.variables
        for name in names_in(written) & variables.keys():
            without = evaluate(written, {**variables, name: "$"}).text
            makes_it_one = only_name(written) == name or bool(secret_form(variable.value) and not secret_form(without))
            asked_for = name in self.draft.request.values or not self.draft.is_secret({name})
            if variables[name] and name not in self.secret and makes_it_one and not asked_for:
                self.secret[name] = f"{variable.name} has its value, and {why}"

    # ---- taking out --------------------------------------------------------------------------------------------------

    def take_out(self) -> None:
        """Put references in the place of all secrets."""
        found = self.find()
        names = self._ambiguous(found)
        for variable, why in found:
            if not self._from_a_file(variable, why):
                self._from_the_host(variable, why, names)
        for env in self.draft.env_files.values():
            self._take_out_of(env)

    def _ambiguous(self, found: list[tuple[Variable, str]]) -> set[str]:
        """The names that stand for different secrets in different services."""
        values: dict[str, set[str]] = {}
        for variable, _ in found:
            values.setdefault(variable.name, set()).add(variable.value)
        for env in self.draft.env_files.values():
            for line in env.lines if env.container else ():
                if line.name in self.secret and line.value is not None:
                    values.setdefault(line.name, set()).add(line.value)
        return {name for name, known in values.items() if len(known) > 1}

    def _from_a_file(self, variable: Variable, why: str) -> bool:
        """Let the image read it from a file, if it can."""
        draft, pair = self.draft, variable.pair
        named = {file_variable(draft.images.get(name, ""), variable.name) for name in variable.services}
        new = named.pop() if len(named) == 1 else ""
        if not new or not self.folders.possible(variable.file, variable.services):
            return False
        if (variable.spot.target or self._known(variable, new)) and pair is None:
            return False
        path = f"{IN_CONTAINER}/{variable.name}"
        document = variable.file.document
        if pair is None:
            document.write(variable.spot, f"{new}={path}")
        else:
            document.replace(pair.key.start, pair.key.end, new)
            document.write(pair.value, path)
        for service in variable.services:
            host = self.folders.give(variable.file, service, variable.name)
            draft.secrets.append(Secret(variable.at, variable.name, (service,), why, self.origin(variable), host))
            self.moved.add((service, variable.name))
            if name := only_name(variable.written or ""):
                self.moved_as[service, name] = variable.name
        draft.change(variable.at, f"{new}: {path}", f"{why}; {NOT_IN_GIT}, and this image reads it from a file")
        return True

    def _known(self, variable: Variable, name: str) -> bool:
        return any((service, name) in self._names for service in variable.services)

    def _from_the_host(self, variable: Variable, why: str, ambiguous: set[str]) -> None:
        """Leave the value to the host's variables: those that the text is made of, or one of the same name."""
        if self._of_variables(variable, why):
            return
        document = variable.file.document
        name = variable.name
        if name in ambiguous:
            name = f"{variable.services[0]}_{name}".upper().replace("-", "_").replace(".", "_")
            text = f"${{{name}-}}"
            document.write(variable.spot, text if variable.pair else f"{variable.name}={text}")
        elif variable.pair is None:
            document.write(variable.spot, name)
        elif variable.spot.in_flow:
            document.replace(variable.spot.start, variable.spot.end, "null")
        else:
            document.clear(variable.spot)
        shown = f"{variable.name}: ${{{name}-}}" if name != variable.name else f"{name}, without its value"
        self.draft.change(variable.at, shown, f"{why}; {NOT_IN_GIT}")
        origin = self.origin(variable)
        self.draft.secrets.append(Secret(variable.at, variable.name, variable.services, why, origin, variable=name))

    def _of_variables(self, variable: Variable, why: str) -> bool:
        """Keep a text that is made of secret variables, and has no other secret in it."""
        written, document = variable.written or "", variable.file.document
        values = variable.file.variables
        known = values.keys() | self.draft.given
        spans = [
            (start, end, name)
            for start, end, name in reference_spans(written)
            if name in self.secret or (name not in known and (secret_name(name) or only_name(written) == name))
        ]
        masked = evaluate(
            written, {**dict.fromkeys(names_in(written), ""), **values, **{it[2]: "$" for it in spans}}
        ).text
        if not spans or variable.spot.target or secret_form(masked):
            return False
        start_of = variable.spot.value.index(written)
        document.rewrite(
            variable.spot,
            [(start_of + start, start_of + end, f"${{{name}-}}") for start, end, name in spans],
        )
        names = list(dict.fromkeys(name for _, _, name in spans))
        self.draft.change(
            variable.at, f"{several([f'${{{name}-}}' for name in names])} instead of a value", f"{why}; {NOT_IN_GIT}"
        )
        for name in names:
            origin = self.line_of(name) or variable.at
            self.draft.secrets.append(Secret(variable.at, name, variable.services, why, origin, variable=name))
        return True

    def origin(self, variable: Variable) -> Place:
        """Where the value of a variable is written so far."""
        return self.line_of(only_name(variable.written or "")) or variable.at

    def line_of(self, name: str) -> Place | None:
        """The last line of a `.env` file that gives a variable its value."""
        if self._lines is None:
            files = self.draft.env_files.values()
            self._lines = {
                line.name: Place(self.draft.shown(env.path), line.line, line.name)
                for env in files
                for line in env.lines
                if line.value
            }
        return self._lines.get(name)

    def _take_out_of(self, env: EnvFile) -> None:
        users = self._users(env)
        for line in env.lines:
            at = Place(self.draft.shown(env.path), line.line, line.name)
            if line.comment:
                if secret_name(line.name) or secret_form(line.written):
                    env.replace(line.start, line.end, "")
                    self.draft.change(at, "value removed from the comment", "it may be a secret of before")
                    self.draft.withheld.add(line.written.strip("'\""), line.name)
            elif line.value and (why := self.why_line(env, line)):
                if env.labels:
                    self.draft.unshown.add(line.value, line.name)
                    self.draft.refuse_secret(at, f"a label is no place for a secret: {why}", [line.name])
                    continue
                self.draft.withheld.add(line.value, line.name)
                if not env.container:
                    env.replace(env.line_start(line.begin), env.line_stop(line.end), "")
                    self.draft.change(at, "removed", f"{why}; {NOT_IN_GIT}")
                elif not self._line_from_a_file(env, line, at, why, users) and not self._line_of_variables(
                    env, line, at, why, users
                ):
                    env.replace(line.begin, line.end, line.name)
                    self.draft.change(at, "value removed", f"{why}; {NOT_IN_GIT}")
                    self.draft.secrets.append(Secret(at, line.name, tuple(users), why, at, variable=line.name))

    def _line_from_a_file(
        self, env: EnvFile, line: EnvLine, at: Place, why: str, users: Mapping[str, ComposeFile]
    ) -> bool:
        """Let those images read a line from a file that can."""
        known = {
            service: new
            for service, file in users.items()
            if (new := file_variable(self.draft.images.get(service, ""), line.name))
            and self.folders.possible(file, (service,))
        }
        if len(set(known.values())) != 1:
            return False
        new = next(iter(known.values()))
        env.replace(line.begin, line.end, f"{new}={IN_CONTAINER}/{line.name}")
        self.draft.change(
            at, f"{new}={IN_CONTAINER}/{line.name}", f"{why}; {NOT_IN_GIT}, and {_reads(list(known))} it from a file"
        )
        for service in known:
            self.moved.add((service, line.name))
            host = self.folders.give(users[service], service, line.name)
            self.draft.secrets.append(Secret(at, line.name, (service,), why, at, host))
        if others := [service for service in users if service not in known]:
            what = f"{several(others)} {'is' if len(others) == 1 else 'are'} not given {line.name} any more"
            self.draft.note(
                at, what, "the file is shared, and nothing is known of how this image could read it from a file"
            )
        return True

    def _line_of_variables(
        self, env: EnvFile, line: EnvLine, at: Place, why: str, users: Mapping[str, ComposeFile]
    ) -> bool:
        """Keep a line that is made of secret variables."""
        spans = [span for span in reference_spans(line.written) if span[2] in self.secret]
        if env.raw or not spans or secret_form(line.written) or line.written.startswith("'"):
            return False
        for start, end, name in spans:
            env.replace(line.start + start, line.start + end, f"${{{name}-}}")
            origin = self.line_of(name) or at
            self.draft.secrets.append(Secret(at, name, tuple(users), why, origin, variable=name))
        self.draft.change(at, "its variables are empty if they are not set", f"{why}; {NOT_IN_GIT}")
        return True

    def _users(self, env: EnvFile) -> dict[str, ComposeFile]:
        """The services that an env file is given to, each with the file that it is written in."""
        found: dict[str, ComposeFile] = {}
        for part in self.draft.parts():
            spot = part.spot.get("env_file")
            items = spot.real.items if spot and spot.real.items is not None else [spot] if spot else []
            for item in items:
                path = item.real.get("path") if item.real.pairs is not None else item.real
                if path and self.loader.path(part.file, path.real.value) == env.path:
                    found |= dict.fromkeys(part.services, part.file)
        return found


def _reads(services: list[str]) -> str:
    return f"the image of {services[0]} reads" if len(services) == 1 else f"the images of {several(services)} read"
