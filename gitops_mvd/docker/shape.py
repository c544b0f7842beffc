"""Is an answer of Docker's of the shape that is documented?  Asked once, where it comes in.  Pure."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, NotRequired, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
Test = Callable[[Any], bool]


def checked(answer: object, shape: type[T]) -> T:
    """The answer, which is of that TypedDict.  Raises TypeError; keys that are not known are nobody's business."""
    if not _test(cast(Hashable, shape))(answer):
        raise TypeError(f"no {shape.__name__}")
    return cast(T, answer)


def each_checked(answer: object, shape: type[T]) -> Sequence[T]:
    """A list of such answers; null is an empty one.  Raises TypeError."""
    if not isinstance(answer, list | None):
        raise TypeError(f"no list of {shape.__name__}")
    return [checked(one, shape) for one in answer or ()]


@cache
def _test(hint: Any) -> Test:
    origin, args = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        return _test_of_keys(hint)
    if origin in (Union, types.UnionType):
        tests = [_test(arg) for arg in args]
        return lambda value: any(test(value) for test in tests)
    if origin in (list, Sequence):
        item = _test(args[0])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if origin in (dict, Mapping):
        item = _test(args[1])
        return lambda value: isinstance(value, dict) and all(map(item, value.values()))
    return lambda value: isinstance(value, hint)


def _test_of_keys(shape: Any) -> Test:
    hints = get_type_hints(shape, include_extras=True)
    optional = {key for key, hint in hints.items() if get_origin(hint) is NotRequired or not shape.__total__}
    tests = {key: _test(get_args(hint)[0] if get_origin(hint) is NotRequired else hint) for key, hint in hints.items()}

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return all(test(value[key]) if key in value else key in optional for key, test in tests.items())

    return test
