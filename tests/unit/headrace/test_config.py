"""Settings: where they come from, what is refused, what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError
from core.settings import Settings
from headrace.config import load, to_environment


def value_and_origin(environ: dict[str, str], name: str, **more: object) -> tuple[str, str]:
    row = next(row for row in load(environ, **more).explain() if row.name == name)  # type: ignore[arg-type]
    return row.value, row.origin


def test_the_environment_beats_the_file_and_the_command_line_beats_both(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('kafka = "file:1"\n[engine]\nthreads = 3\n')
    environ = {"HEADRACE_KAFKA": "env:1"}
    assert value_and_origin(environ, "kafka", directory=tmp_path) == ("env:1", "HEADRACE_KAFKA")
    assert value_and_origin(environ, "kafka", directory=tmp_path, overrides={"kafka": "cli:1"}) == ("cli:1", "command line")
    assert value_and_origin({}, "engine.threads", directory=tmp_path) == ("3", str(tmp_path / "headrace.toml"))
    assert value_and_origin({}, "engine.threads") == ("2", "default")


def test_a_misspelt_setting_is_refused_and_the_nearest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`HEADRACE_ENGNE__THREADS`.*`HEADRACE_ENGINE__THREADS`"):
        load({"HEADRACE_ENGNE__THREADS": "4"})
    (tmp_path / "headrace.toml").write_text("[engine]\nthread = 3\n")
    with pytest.raises(ConfigError, match=r"`engine.thread`.*headrace.toml.*`engine.threads`"):
        load({}, directory=tmp_path)


def test_a_value_of_the_wrong_kind_names_its_variable() -> None:
    with pytest.raises(ConfigError, match=r"`engine.threads` cannot be `many`.*HEADRACE_ENGINE__THREADS"):
        load({"HEADRACE_ENGINE__THREADS": "many"})


def test_a_file_that_is_named_but_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no file"):
        load({"HEADRACE_CONFIG": str(tmp_path / "absent.toml")})


def test_secrets_are_masked_wherever_a_value_is_shown() -> None:
    environ = {"HEADRACE_DATABASE_URL": "postgresql://me:hunter2@db:4566/dev", "HEADRACE_API_KEYS": '{"a": "hunter2"}'}
    assert all("hunter2" not in row.value for row in load(environ).explain())
    with pytest.raises(ConfigError) as refused:
        load({"HEADRACE_API_KEYS": '["hunter2"]'})
    assert "hunter2" not in str(refused.value)


def test_names_of_the_test_suite_and_promised_names_are_no_errors() -> None:
    loaded = load({"HEADRACE_SERVICES": "required", "HEADRACE_LLM_URL": "http://x", "DRIFT_THRESHOLD": "0.05"})
    assert loaded.unused == ("DRIFT_THRESHOLD", "HEADRACE_LLM_URL")


def test_a_child_process_reads_exactly_what_its_parent_resolved() -> None:
    given = load(
        {"HEADRACE_ENGINE__THREADS": "3", "HEADRACE_API_KEYS": '{"a": "k"}', "HEADRACE_API_ALLOWED_ORIGINS": '["http://x"]'}
    )
    assert load(to_environment(given.settings)).settings == given.settings
    assert load(to_environment(Settings())).settings == Settings()


def test_promised_names_without_the_prefix_set_their_setting_and_the_prefixed_one_wins() -> None:
    promised = {"DEFAULT_ALLOCATION_STRATEGY": "fixed_split", "DEFAULT_TRAFFIC_PERCENTAGE": "10.0"}
    found = load(promised).settings.experiments
    assert (found.allocation_strategy, found.traffic_percentage) == ("fixed_split", 10.0)
    both = load(promised | {"HEADRACE_EXPERIMENTS__TRAFFIC_PERCENTAGE": "20"}).settings.experiments
    assert both.traffic_percentage == 20.0
    with pytest.raises(ConfigError, match=r"experiments\.allocation_strategy"):
        load({"DEFAULT_ALLOCATION_STRATEGY": "roulette"})
