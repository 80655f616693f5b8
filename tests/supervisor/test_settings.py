"""Settings: which source wins, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.configuration import SettingsError, load_settings, unknown_variables
from supervisor.settings import SETTINGS


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(
    flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, toml: str = ""
) -> list[str]:
    if toml:
        Path("odradek.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or {}, environment or {})
    return caught.value.problems


def test_defaults() -> None:
    settings = load_settings({}, {})
    assert (settings.host, settings.port, settings.routers) == ("127.0.0.1", 5559, 1)
    assert settings.data == Path("odradek-data")
    assert settings.auto_create_topics is True
    assert (settings.heartbeat_interval_s, settings.heartbeat_timeout_s) == (1.0, 15.0)


def test_flag_over_environment_over_file_over_default() -> None:
    Path("odradek.toml").write_text("port = 1001\nrouters = 2\ndefault_partitions = 3\n")
    environment = {"ODRADEK_PORT": "1002", "ODRADEK_ROUTERS": "4"}
    settings = load_settings({"port": "1003"}, environment)
    assert (settings.port, settings.routers, settings.default_partitions) == (1003, 4, 3)
    assert settings.partitions_max == SETTINGS["partitions_max"].default


def test_config_flag_names_another_file(tmp_path: Path) -> None:
    Path("odradek.toml").write_text("port = 1001\n")
    other = tmp_path / "other.toml"
    other.write_text("routers = 5\nauto_create_topics = false\nheartbeat_timeout_s = 20\n")
    settings = load_settings({}, {}, other)
    assert (settings.port, settings.routers, settings.auto_create_topics) == (5559, 5, False)
    assert settings.heartbeat_timeout_s == 20.0


def test_a_config_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no file .*none\.toml \(from flag --config\)"):
        load_settings({}, {}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("flags", "environment", "toml", "expected"),
    [
        ({"port": "70000"}, {}, "", "port is '70000' (from flag --port); it must be a whole number from 0"),
        ({}, {"ODRADEK_ROUTERS": "many"}, "", "routers is 'many' (from environment ODRADEK_ROUTERS)"),
        ({}, {}, "routers = true", "routers is True (from file odradek.toml)"),
        ({}, {}, "port = 1.5", "port is 1.5 (from file odradek.toml)"),
        ({"heartbeat_interval_s": "nan"}, {}, "", "a number of seconds from 0.05 to 60"),
        ({"auto_create_topics": "perhaps"}, {}, "", "it must be true or false"),
        ({"log_level": "loud"}, {}, "", "one of debug, info, warning, error"),
        ({"host": "localhost"}, {}, "", "it must be an IP address, such as 127.0.0.1"),
        ({"data": ""}, {}, "", "data is '' (from flag --data); it must be a path"),
        ({"router_memory_bytes_max": "12 parsecs"}, {}, "", "a whole number of bytes from 134217728"),
        ({}, {}, "prot = 1", "there is no setting 'prot' (from file odradek.toml); did you mean port?"),
        ({}, {}, "[broker]\nport = 1", "there is no setting 'broker'"),
        ({}, {}, "port = ", "the settings file odradek.toml is not TOML"),
    ],
)
def test_an_error_names_setting_source_value_and_what_is_allowed(
    flags: dict[str, object], environment: dict[str, str], toml: str, expected: str
) -> None:
    found = problems(flags, environment, toml)
    assert len(found) == 1
    assert expected in found[0]


def test_every_problem_is_told_at_once() -> None:
    assert len(problems({"port": "x", "routers": "0"}, {"ODRADEK_LOG_LEVEL": "?"}, "typo = 1")) == 4


@pytest.mark.parametrize("text", ["2GiB", "2 gib", "2048MiB", str(2 << 30)])
def test_sizes_may_have_a_unit(text: str) -> None:
    assert load_settings({"router_memory_bytes_max": text}, {}).router_memory_bytes_max == 2 << 30


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::"])
def test_an_address_that_others_reach_is_refused_unless_said_in_words(host: str) -> None:
    assert "other machines can reach" in problems({"host": host})[0]
    assert load_settings({"host": host, "allow_insecure_host": True}, {}).host == host
    assert load_settings({"host": host}, {"ODRADEK_SECURITY_CURVE": "required"}).curve_required


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_loopback_needs_no_words(host: str) -> None:
    assert load_settings({"host": host}, {}).host == host


def test_values_that_contradict_each_other() -> None:
    assert "at least twice heartbeat_interval_s" in problems({"heartbeat_timeout_s": "1.5"})[0]
    assert "must not be less than" in problems({"restart_delay_max_s": "0.01"})[0]
    assert "65535 is the last" in problems({"port": "65535", "routers": "2"})[0]


def test_foreign_variables_are_not_ours() -> None:
    assert load_settings({}, {"ODRADEK_BOOTSTRAP": "tcp://127.0.0.1:1"}) == load_settings({}, {})


def test_every_setting_has_a_sentence_a_flag_and_a_default_within_its_bounds() -> None:
    for name, setting in SETTINGS.items():
        assert setting.doc.endswith("."), name
        assert setting.flag == "--" + name.replace("_", "-")
        if setting.kind != "path":
            assert setting.parse(setting.default) == setting.default, name


def test_a_variable_that_looks_like_a_setting_and_is_none_is_told_with_a_suggestion() -> None:
    environment = {"ODRADEK_PROT": "1", "ODRADEK_BOOTSTRAP": "x", "ODRADEK_PORT": "7", "PATH": "/bin"}
    assert load_settings({}, environment).port == 7
    (sentence,) = unknown_variables(environment)
    assert sentence == "there is no setting 'prot' (from environment ODRADEK_PROT); did you mean port?"
    (sentence,) = unknown_variables({"ODRADEK_XYZZYX": ""})
    assert "known settings: data, host" in sentence
