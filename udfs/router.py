"""Which members of a route are asked for which row.

    ensemble_mean, ensemble_vote   every serving member answers every row
    choice                         one member a key, in proportion to the weights
    canary                         each challenger takes its `fraction` of the keys, the champions the rest
    blue_green                     the one member with a weight answers

Choices are sticky: they depend on the key and on the members, and on nothing else, so a replay asks the same models.
`choice` is weighted rendezvous hashing: when one weight changes or a member leaves, only the keys that must move do.
The canary's bucket of a key does not depend on the fraction: a key that is in at 10 % is still in at 25 %.

A member with the role `shadow` is never among them: it gets its `fraction` of the keys aside (`udfs.shadows`), after the answer.

Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (the logarithmic method).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.route import Member, Route

Mask = npt.NDArray[np.bool_]


def asked_members(route: Route, available: frozenset[int], keys: pa.Array) -> Mask:
    """Decide who is asked.

    Args:
        route: the members, of which only positions in `available` can answer. The shares of the others fall to the rest.
        keys: string[rows], what the choice sticks to, e.g. the entity; NULL counts as the empty text.

    Returns:
        bool[rows, members].
    """
    asked = np.zeros((len(keys), len(route.members)), np.bool_)
    serving = [i for i in route.serving if i in available]
    if serving:
        _STRATEGIES[route.strategy](route, serving, keys, asked)
    return asked


def shadowed_keys(member: Member, keys: pa.Array) -> npt.NDArray[np.bool_]:
    """Which keys a shadow gets: bool[rows], its `fraction` of them, the same ones each time."""
    if member.fraction >= 1.0:
        return np.ones(len(keys), np.bool_)
    found: npt.NDArray[np.bool_] = _bucket(keys, f"shadow/{member.key}") < member.fraction
    return found


def _ask_all(_route: Route, serving: list[int], _keys: pa.Array, asked: Mask) -> None:
    asked[:, serving] = True


def _ask_one(route: Route, serving: list[int], keys: pa.Array, asked: Mask) -> None:
    scores = np.stack([_distance(keys, str(route.members[i].key), route.members[i].weight) for i in serving])
    asked[np.arange(len(keys)), np.array(serving)[scores.argmin(axis=0)]] = True


def _ask_canary(route: Route, serving: list[int], keys: pa.Array, asked: Mask) -> None:
    bucket = _bucket(keys, "canary")
    rest = np.ones(len(keys), np.bool_)
    start = 0.0
    for i in route.serving:  # all of them, so that a missing challenger does not move the ranges of the others
        member = route.members[i]
        if member.role != "challenger":
            continue
        within = (bucket >= start) & (bucket < start + member.fraction)
        start += member.fraction
        if i in serving:
            asked[within, i] = True
            rest &= ~within
    champions = [i for i in serving if route.members[i].role == "champion"]
    for i in champions:
        asked[rest, i] = True


_STRATEGIES: dict[str, Callable[[Route, list[int], pa.Array, Mask], None]] = {
    "ensemble_mean": _ask_all,
    "ensemble_vote": _ask_all,
    "choice": _ask_one,
    "canary": _ask_canary,
    "blue_green": _ask_all,
}


def _bucket(keys: pa.Array, purpose: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each key: float64[rows], the same on every machine."""
    return _of_distinct(keys, lambda key: _uniform(key, purpose))


def _distance(keys: pa.Array, purpose: str, weight: float) -> npt.NDArray[np.float64]:
    """Exponential with rate `weight` for each key: the smallest of several belongs to each in proportion to its weight."""
    return _of_distinct(keys, lambda key: -math.log(1.0 - _uniform(key, purpose)) / weight)


def _of_distinct(keys: pa.Array, function: Callable[[str], float]) -> npt.NDArray[np.float64]:
    encoded = pc.fill_null(keys, "").dictionary_encode()
    values = np.array([function(key) for key in encoded.dictionary.to_pylist()], np.float64)
    found: npt.NDArray[np.float64] = values[encoded.indices.to_numpy()]
    return found


def _uniform(key: str, purpose: str) -> float:
    digest = blake2b(key.encode(), digest_size=8, key=blake2b(purpose.encode(), digest_size=32).digest())
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2.0**53
