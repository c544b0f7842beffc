"""The rules of the tables: what may be wrong with a value, a record, or several fields together, in Kong's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.kong_standin.checks import CHECKS

Spec = Mapping[str, Any]
Record = dict[str, Any]


def violations(fields: Mapping[str, Spec], record: Mapping[str, Any]) -> Record:
    """Field → what is wrong with it, for every field of a record that is filled in."""
    errors: Record = {name: "unknown field" for name in record if name not in fields}
    for name, spec in fields.items():
        if error := _violation(spec, record[name]):
            errors[name] = error
    return errors


TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "expected a string"),
    "boolean": (lambda value: isinstance(value, bool), "expected a boolean"),
    "number": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "expected a number"),
    "integer": (
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer(),
        "expected an integer",
    ),
    "array": (lambda value: isinstance(value, list), "expected an array"),
    "set": (lambda value: isinstance(value, list), "expected a set"),
    "map": (lambda value: isinstance(value, dict), "expected a map"),
    "record": (lambda value: isinstance(value, dict), "expected a record"),
    "foreign": (lambda value: isinstance(value, dict), "expected a record"),
    "any": (lambda value: True, ""),
}


def is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _sets_of(value: list[Any], sets: list[list[Any]]) -> list[list[Any]]:
    return [one for one in sets if not set(one).isdisjoint(value)]


# rule → (does the value keep it?, what Kong says if it does not)
RULES: dict[str, tuple[Callable[[Any, Any], bool], Callable[[Any, Any], str]]] = {
    "eq": (lambda value, other: value == other, lambda _, other: f"value must be {str(other).lower()}"),
    "ne": (lambda value, other: value != other, lambda _, other: f"value must not be {str(other).lower()}"),
    "gt": (lambda value, least: value > least, lambda _, least: f"value must be greater than {least}"),
    "between": (
        lambda value, limits: limits[0] <= value <= limits[1],
        lambda _, limits: f"value should be between {limits[0]} and {limits[1]}",
    ),
    "len_eq": (lambda value, n: len(value) == n, lambda _, n: f"length must be {n}"),
    "len_min": (lambda value, n: len(value) >= n, lambda _, n: f"length must be at least {n}"),
    "len_max": (lambda value, n: len(value) <= n, lambda _, n: f"length must be at most {n}"),
    "match": (
        lambda value, pattern: re.search(pattern, value) is not None,
        lambda value, _: f"invalid value: {value}",
    ),
    "match_any": (
        lambda value, any_: any(re.search(pattern, value) for pattern in any_["patterns"]),
        lambda _, any_: str(any_["error"]),
    ),
    "match_none": (
        lambda value, nots: not any(re.search(each["pattern"], value) for each in nots),
        lambda value, nots: next(str(each["error"]) for each in nots if re.search(each["pattern"], value)),
    ),
    "starts_with": (
        lambda value, start: value.startswith(start),
        lambda _, start: f"should start with: {start}",
    ),
    "contains": (lambda value, item: item in value, lambda _, item: f"expected to contain: {item}"),
    "one_of": (lambda value, known: value in known, lambda _, known: f"expected one of: {_listed(known)}"),
    "not_one_of": (
        lambda value, known: value not in known,
        lambda _, known: f"must not be one of: {_listed(known)}",
    ),
    "apart": (
        lambda value, sets: len(_sets_of(value, sets)) < 2,
        lambda value, sets: (
            "these sets are mutually exclusive: " + ", ".join(f"({_quoted(one)})" for one in _sets_of(value, sets))
        ),
    ),
    "is_regex": (lambda value, _: _is_regex(value), lambda value, _: f"not a valid regex: {value}"),
    "uuid": (lambda value, _: is_uuid(value), lambda *_: "expected a valid UUID"),
    "check": (lambda value, name: CHECKS[name](value) is None, lambda value, name: str(CHECKS[name](value))),
}


def _violation(spec: Spec, value: Any) -> Any:
    """What is wrong with one value: a sentence, the same per element or per field, or None."""
    if value is None:
        return "required field missing" if spec.get("required") else None
    if "eq" in spec and spec["eq"] is None:
        return spec.get("error", "value must be null")
    fits, sentence = TYPES[spec.get("type", "any")]
    if not fits(value):
        return sentence
    if isinstance(value, str) and value.startswith("{vault://"):
        return None
    if "elements" in spec:
        errors = [_violation({**spec["elements"], "required": True}, each) for each in value]
        if any(errors):
            return errors[: max(position for position, error in enumerate(errors, 1) if error)]
    if "fields" in spec:
        return violations(spec["fields"], value) or None
    if spec.get("type") == "map":
        for key, each in value.items():
            if error := _violation(spec["keys"], key) or _violation(spec["values"], each):
                return error
    rules = {"len_min": 1, **spec} if spec.get("type") == "string" else spec
    for rule, (keeps, says) in RULES.items():
        if rule in rules and not keeps(value, rules[rule]):
            return spec.get("error") or says(value, rules[rule])
    return None


def cross_check(check: Spec, record: Mapping[str, Any], errors: Record) -> None:
    """One rule about several fields; what breaks it is added to `errors`."""
    ((name, rule),) = check.items()
    if sentence := CROSS_CHECKS[name](rule, record, errors):
        errors.setdefault("@entity", []).append(sentence)


def _value(record: Mapping[str, Any], dotted: str) -> Any:
    value: Any = record
    for word in dotted.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _set(record: Mapping[str, Any], names: list[str]) -> int:
    return sum(_value(record, name) not in (None, "", [], {}) for name in names)


def _at_least_one(names: list[str], record: Mapping[str, Any], errors: Record) -> str:
    broken = any(name.split(".")[0] in errors for name in names)
    if broken or _set(record, names):
        return ""
    return f"at least one of these fields must be non-empty: {_quoted(names)}"


def _only_one(names: list[str], record: Mapping[str, Any], errors: Record) -> str:
    if _set(record, names) == 1:
        return ""
    return f"exactly one of these fields must be non-empty: {_quoted(names)}"


def _mutually_exclusive(names: list[str], record: Mapping[str, Any], errors: Record) -> str:
    if _set(record, names) < 2:
        return ""
    return f"only one or none of these fields must be set: {_quoted(names)}"


def _mutually_required(names: list[str], record: Mapping[str, Any], errors: Record) -> str:
    if _set(record, names) in (0, len(names)):
        return ""
    return f"all or none of these fields must be set: {_quoted(names)}"


def _conditional(rule: Spec, record: Mapping[str, Any], errors: Record) -> str:
    given = _value(record, rule["if_field"])
    if given is None or _violation(rule["if_match"], given):
        return ""
    error = _violation(rule["then_match"], _value(record, rule["then_field"]))
    if not error:
        return ""
    place = errors
    *parents, last = rule["then_field"].split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = error
    return str(rule.get("then_err") or f"failed conditional validation given value of field '{rule['if_field']}'")


def _conditional_at_least_one(rule: Spec, record: Mapping[str, Any], errors: Record) -> str:
    given = _value(record, rule["if_field"])
    if given is None or rule["if_field"] in errors:
        return ""
    for match, names, sentence in (
        ("if_match", "then_at_least_one_of", "then_err"),
        ("else_match", "else_then_at_least_one_of", "else_then_err"),
    ):
        if match in rule and not _violation(rule[match], given):
            return "" if _set(record, rule[names]) else rule[sentence].replace("%s", _quoted(rule[names]))
    return ""


CROSS_CHECKS: dict[str, Callable[[Any, Mapping[str, Any], Record], str]] = {
    "at_least_one_of": _at_least_one,
    "only_one_of": _only_one,
    "mutually_exclusive": _mutually_exclusive,
    "mutually_required": _mutually_required,
    "conditional": _conditional,
    "conditional_at_least_one_of": _conditional_at_least_one,
}
