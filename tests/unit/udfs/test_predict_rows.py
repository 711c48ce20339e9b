"""What `predict` answers, row by row."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from arrow_udf import JsonType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udfs.predict import RESULT_TYPE, predict
from udfs.route import ModelKey

BAD = {
    "null_features": None,
    "null_feature": [1.0, None, 2.0],
    "non_finite_feature": [1.0, math.nan, 2.0],
    "wrong_length": [1.0, 2.0],
}


def ask(sessions, routes, features, keys=None):
    keys = keys or [f"key-{i}" for i in range(len(features))]
    answer = predict(
        pa.array(routes, pa.string()), pa.array(keys, pa.string()), pa.array(features, pa.list_(pa.float64())), sessions
    )
    assert answer.type == RESULT_TYPE
    return answer.to_pylist()


def test_the_score_is_the_weighted_mean_of_what_each_session_says(sessions, artifacts, make_route):
    route = make_route(("sick", 1, "champion", 3.0), ("sick", 2, "challenger", 1.0))
    features = np.random.default_rng(1).normal(size=(50, 3))
    rows = ask(sessions, [route] * 50, features.tolist())
    own = [sessions.get(ModelKey("sick", v)).probabilities(features.astype(np.float32)).astype(float) for v in (1, 2)]
    expected = 0.75 * own[0] + 0.25 * own[1]
    assert [row["score"] for row in rows] == expected[:, 1].tolist()
    assert [row["label"] for row in rows] == [("no", "yes")[i] for i in expected.argmax(axis=1)]
    assert [[m["value"] for m in row["members"]] for row in rows] == [
        [float(a), float(b)] for a, b in zip(own[0][:, 1], own[1][:, 1], strict=True)
    ]
    assert {(m["version"], m["role"], m["weight"]) for row in rows for m in row["members"]} == {
        (1, "champion", 0.75),
        (2, "challenger", 0.25),
    }


@pytest.mark.parametrize("code", BAD)
def test_one_bad_row_in_ten_thousand_is_one_typed_error_and_changes_no_other_row(sessions, make_route, code):
    route = make_route(("sick", 1, "champion", 0.7), ("sick", 2, "challenger", 0.3))
    features: list[object] = np.random.default_rng(2).normal(size=(10_000, 3)).tolist()
    alone = ask(sessions, [route] * 9_999, features[:5_000] + features[5_001:], [f"key-{i}" for i in range(9_999)])
    features[5_000] = BAD[code]
    rows = ask(sessions, [route] * 10_000, features)
    bad = rows.pop(5_000)
    assert bad["error"]["code"] == code
    assert (bad["label"], bad["score"]) == (None, None)
    assert rows == alone


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_row_is_answered_as_if_it_were_alone(sessions, make_route, data):
    routes = [
        None,
        "{not json",
        make_route(("sick", 1, "champion", 1.0)),
        make_route(("sick", 1, "champion", 0.3), ("sick", 2, "champion", 0.6), ("nowhere", 9, "champion", 0.1)),
        make_route(("sick", 1, "champion", 0.5), ("sick", 2, "champion", 0.5), strategy="ensemble_vote"),
        make_route(("sick", 1, "champion", 0.5), ("sick", 2, "champion", 0.5), strategy="choice"),
        make_route(("sick", 1, "champion", 1.0), ("sick", 2, "challenger", 1.0), strategy="canary", sick=0.5),
        make_route(("pickled", 1, "champion", 1.0)),
        make_route(("sick", 2, "champion", 1.0), strategy="roulette"),
    ]
    number = st.one_of(st.none(), st.floats(width=32), st.just(1e300))
    vector = st.one_of(st.none(), st.lists(number, max_size=4), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
    rows = data.draw(st.lists(st.tuples(st.sampled_from(routes), vector, st.sampled_from(["a", "b", None])), max_size=12))
    together = ask(sessions, [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]) if rows else []
    apart = [ask(sessions, [route], [features], [key])[0] for route, features, key in rows]
    assert together == apart
    for row in together:
        assert (row["error"] is None) == (row["score"] is not None) == (row["label"] is not None)


def test_each_model_is_called_once_a_batch_whatever_the_routes_are(sessions, make_route, monkeypatch):
    calls = []
    run = sessions.run
    monkeypatch.setattr(sessions, "run", lambda model, x: calls.append((str(model.key), len(x))) or run(model, x))
    one = make_route(("sick", 1, "champion", 1.0))
    both = make_route(("sick", 1, "champion", 0.5), ("sick", 2, "champion", 0.5))
    ask(sessions, [one, both, one, both], [[1.0, 2.0, 3.0]] * 4)
    assert calls == [("sick@1", 4), ("sick@2", 2)]


def test_weights_renormalise_over_the_members_that_answered(sessions, make_route):
    route = make_route(("nowhere", 1, "champion", 0.5), ("pickled", 1, "champion", 0.2), ("sick", 1, "champion", 0.3))
    (row,) = ask(sessions, [route], [[1.0, 2.0, 3.0]])
    (alone,) = ask(sessions, [make_route(("sick", 1, "champion", 1.0))], [[1.0, 2.0, 3.0]])
    assert row["score"] == alone["score"]
    assert [(m["model"], m["weight"], m.get("error", {}).get("code")) for m in row["members"]] == [
        ("nowhere", 0.0, "model_not_found"),
        ("pickled", 0.0, "model_rejected"),
        ("sick", 1.0, None),
    ]


def test_when_all_members_fail_the_row_is_an_error_that_names_them(sessions, make_route):
    (row,) = ask(sessions, [make_route(("nowhere", 1, "champion", 0.5), ("pickled", 1, "champion", 0.5))], [[1.0, 2.0, 3.0]])
    assert row["error"]["code"] == "members_failed"
    assert "nowhere@1" in row["error"]["message"]
    assert "pickled@1" in row["error"]["message"]
    assert row["score"] is None
    assert len(row["members"]) == 2


def test_a_vote_is_won_by_weight_and_not_by_confidence(sessions, artifacts, make_constant, make_route):
    artifacts.stored["sure", 1] = make_constant([0.01, 0.99], ("no", "yes"), "yes")
    artifacts.stored["unsure", 1] = make_constant([0.51, 0.49], ("no", "yes"), "yes")
    artifacts.stored["unsure", 2] = make_constant([0.52, 0.48], ("no", "yes"), "yes")
    members = (("sure", 1, "champion", 1.0), ("unsure", 1, "champion", 1.0), ("unsure", 2, "champion", 1.0))
    mean, vote = ask(sessions, [make_route(*members), make_route(*members, strategy="ensemble_vote")], [[0.0, 0.0, 0.0]] * 2)
    assert mean["label"] == "yes"
    assert vote["label"] == "no"
    assert vote["score"] == pytest.approx(1 / 3)


def test_members_may_order_their_classes_differently_but_not_know_others(sessions, artifacts, make_constant, make_route):
    artifacts.stored["abc", 1] = make_constant([0.7, 0.2, 0.1], ("a", "b", "c"))
    artifacts.stored["cab", 1] = make_constant([0.1, 0.6, 0.3], ("c", "a", "b"))
    artifacts.stored["abd", 1] = make_constant([0.7, 0.2, 0.1], ("a", "b", "d"))
    same = make_route(("abc", 1, "champion", 1.0), ("cab", 1, "champion", 1.0))
    other = make_route(("abc", 1, "champion", 1.0), ("abd", 1, "champion", 1.0))
    agreed, disagreed = ask(sessions, [same, other], [[0.0, 0.0, 0.0]] * 2)
    assert agreed["label"] == "a"
    assert agreed["score"] == pytest.approx(0.65)
    assert [m["value"] for m in agreed["members"]] == pytest.approx([0.7, 0.6])
    assert disagreed["error"]["code"] == "incompatible_members"


def test_a_shadow_is_neither_waited_for_nor_told_in_the_row(sessions, artifacts, make_route):
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 5.0), ("nowhere", 1, "shadow", 1.0))
    (row,) = ask(sessions, [route], [[1.0, 2.0, 3.0]])
    assert artifacts.fetched == ["sick@1"]
    (alone,) = ask(sessions, [make_route(("sick", 1, "champion", 1.0))], [[1.0, 2.0, 3.0]])
    assert row == alone


def test_a_member_without_a_single_most_probable_class_abstains_from_the_vote(sessions, artifacts, make_constant, make_route):
    artifacts.stored["undecided", 1] = make_constant([0.4, 0.4, 0.2], ("a", "b", "c"))
    artifacts.stored["for_c", 1] = make_constant([0.0, 0.1, 0.9], ("a", "b", "c"))
    members = (("undecided", 1, "champion", 3.0), ("for_c", 1, "champion", 1.0))
    (vote,) = ask(sessions, [make_route(*members, strategy="ensemble_vote")], [[0.0, 0.0, 0.0]])
    assert (vote["label"], vote["score"], vote["error"]) == ("c", 1.0, None)
    assert [(m["weight"], m.get("error", {}).get("code")) for m in vote["members"]] == [(0.0, "abstained"), (1.0, None)]
    (mean,) = ask(sessions, [make_route(*members)], [[0.0, 0.0, 0.0]])
    assert [m["weight"] for m in mean["members"]] == [0.75, 0.25]
    (nobody,) = ask(sessions, [make_route(members[0], strategy="ensemble_vote")], [[0.0, 0.0, 0.0]])
    assert (nobody["label"], nobody["error"]["code"]) == (None, "abstained")


def test_what_a_member_says_is_enough_to_score_it_by_any_label(sessions, artifacts, make_constant, make_route):
    artifacts.stored["three", 1] = make_constant([0.5, 0.25, 0.25], ("a", "b", "c"))
    two, three = ask(sessions, [make_route((n, 1, "champion", 1.0)) for n in ("sick", "three")], [[1.0, 2.0, 3.0]] * 2)
    assert (two["members"][0]["positive"], two["members"][0]["negative"]) == ("yes", "no")
    assert two["members"][0]["value"] == two["score"]
    assert three["members"][0]["probabilities"] == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert three["members"][0]["sum_of_squares"] == pytest.approx(0.375)
    assert "positive" not in three["members"][0]


def test_a_row_that_makes_a_model_raise_does_not_take_its_neighbours_along(sessions, make_route, monkeypatch):
    run = sessions.run

    def fail_on_seven(model, features):
        if (features[:, 0] == 7).any():
            raise RuntimeError("seven")
        return run(model, features)

    features = [[float(i), 0.0, 1.0] for i in range(20)]
    expected = ask(sessions, [make_route(("sick", 1, "champion", 1.0))] * 20, features)
    monkeypatch.setattr(sessions, "run", fail_on_seven)
    rows = ask(sessions, [make_route(("sick", 1, "champion", 1.0))] * 20, features)
    assert rows[7]["error"]["code"] == "model_failed"
    assert rows[:7] + rows[8:] == expected[:7] + expected[8:]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2, 3]], pa.list_(pa.int64())),
        pa.array([[1.0, 2.0, 3.0]], pa.large_list(pa.float32())),
        pa.array([[9.0, 9.0, 9.0], [1.0, 2.0, 3.0]], pa.list_(pa.float64())).slice(1),
    ],
)
def test_callers_may_send_other_encodings_of_the_same_arguments(sessions, make_route, column):
    route = make_route(("sick", 1, "champion", 1.0))
    (expected,) = ask(sessions, [route], [[1.0, 2.0, 3.0]], ["k"])
    json_column = pa.ExtensionArray.from_storage(JsonType(), pa.array([route]))
    for routes in (json_column, pa.array([route], pa.large_string()), pa.array([route]).dictionary_encode()):
        assert predict(routes, pa.array(["k"], pa.large_string()), column, sessions).to_pylist() == [expected]


def test_the_members_are_json_that_any_reader_takes(sessions, make_route):
    answer = predict(
        pa.array([make_route(("sick", 1, "champion", 1.0))] * 2),
        pa.array(["k", "l"]),
        pa.array([[0.0, 0.0, 0.0], [100.0, -100.0, 50.0]]),
        sessions,
    )
    for text in answer.field("members").storage.to_pylist():
        assert json.loads(text)[0]["model"] == "sick"
