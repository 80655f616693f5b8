"""Kafka's own command line tools as an administrator over SASL: topics, settings, users, rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import odradek
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import NoKafka, kafka_classpath

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here"),
]
POM = Path(__file__).resolve().parent / "tools" / "pom.xml"
TOOL_TIMEOUT_S = 120
PASSWORD = "kept in a file"
Tool = Callable[..., str]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(
        kafka_security="sasl_plaintext", authorization="acls", super_users="User:ANONYMOUS;User:admin"
    ) as process:
        with odradek.Admin(process.bootstrap) as admin:
            admin.set_password("admin", PASSWORD)
        yield process


@pytest.fixture(scope="module")
def tool(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Runs a tool by its class, and gives what it printed."""
    try:
        classpath = kafka_classpath(pom=POM)
    except NoKafka as why:
        pytest.skip(str(why))
    options = tmp_path_factory.mktemp("java") / "client.properties"
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    options.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={module} required username="admin" password="{PASSWORD}";\n'
    )

    def run(name: str, *words: str) -> str:
        java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classpath, name]
        place = ["--bootstrap-server", broker.ready["kafka"], "--command-config", str(options)]
        done = subprocess.run(
            [*java, *place, *words], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_kafka_topics(broker: BrokerProcess, tool: Tool) -> None:
    topics = "org.apache.kafka.tools.TopicCommand"
    tool(topics, "--create", "--topic", "made", "--partitions", "3", "--config", "retention.ms=60000")
    described = tool(topics, "--describe", "--topic", "made")
    assert "PartitionCount: 3\tReplicationFactor: 1\tConfigs: retention.ms=60000" in described
    tool(topics, "--alter", "--topic", "made", "--partitions", "4")
    with odradek.Admin(broker.bootstrap) as admin:
        assert len(admin.describe_topics(["made"])[0].partitions) == 4
    tool(topics, "--delete", "--topic", "made")
    assert "made" not in tool(topics, "--list")


def test_kafka_configs(broker: BrokerProcess, tool: Tool) -> None:
    configs = "kafka.admin.ConfigCommand"
    with odradek.Admin(broker.bootstrap) as admin:
        admin.create_topic("set")
    of_topic = ("--entity-type", "topics", "--entity-name", "set")
    tool(configs, "--alter", *of_topic, "--add-config", "segment.ms=5000")
    shown = tool(configs, "--describe", *of_topic)
    assert "segment.ms=5000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.ms=5000" in shown
    of_user = ("--entity-type", "users", "--entity-name", "eve")
    tool(configs, "--alter", *of_user, "--add-config", "SCRAM-SHA-256=[password=secret]")
    assert "SCRAM-SHA-256=iterations=" in tool(configs, "--describe", *of_user)


def test_kafka_acls_and_log_dirs(tool: Tool) -> None:
    acls = "org.apache.kafka.tools.AclCommand"
    rule = ("--allow-principal", "User:eve", "--operation", "Read", "--topic", "some")
    tool(acls, "--add", *rule)
    assert "(principal=User:eve, host=*, operation=READ, permissionType=ALLOW)" in tool(acls, "--list")
    tool(acls, "--remove", "--force", *rule)
    assert "User:eve" not in tool(acls, "--list")
    assert '"version":1' in tool("org.apache.kafka.tools.LogDirsCommand", "--describe")
