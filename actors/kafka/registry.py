"""Which handler serves which API. What is not here is not advertised, and closes the connection."""

from __future__ import annotations

from actors.kafka import (
    alter_configs,
    api_versions,
    create_acls,
    create_partitions,
    create_topics,
    delete_acls,
    delete_groups,
    delete_records,
    delete_topics,
    describe_acls,
    describe_client_quotas,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    fetch,
    find_coordinator,
    heartbeat,
    init_producer_id,
    join_group,
    leader_epochs,
    leave_group,
    list_groups,
    list_offsets,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    produce,
    sasl_authenticate,
    sasl_handshake,
    scram_users,
    sync_group,
)
from actors.kafka.handling import Handler
from actors.kafka.versions import API_VERSIONS_KEY, VERSIONS

HANDLERS: dict[int, Handler] = {
    0: produce.handle,
    1: fetch.handle,
    2: list_offsets.handle,
    3: metadata.handle,
    8: offset_commit.handle,
    9: offset_fetch.handle,
    10: find_coordinator.handle,
    11: join_group.handle,
    12: heartbeat.handle,
    13: leave_group.handle,
    14: sync_group.handle,
    15: describe_groups.handle,
    16: list_groups.handle,
    17: sasl_handshake.handle,
    19: create_topics.handle,
    20: delete_topics.handle,
    21: delete_records.handle,
    22: init_producer_id.handle,
    23: leader_epochs.handle,
    29: describe_acls.handle,
    30: create_acls.handle,
    31: delete_acls.handle,
    32: describe_configs.handle,
    33: alter_configs.handle,
    35: describe_log_dirs.handle,
    36: sasl_authenticate.handle,
    37: create_partitions.handle,
    42: delete_groups.handle,
    44: alter_configs.handle_incremental,
    47: offset_delete.handle,
    48: describe_client_quotas.handle,
    50: scram_users.describe,
    51: scram_users.alter,
    60: describe_cluster.handle,
}

SERVED = {key: VERSIONS[key] for key in sorted({*HANDLERS, API_VERSIONS_KEY})}
"""Lowest and highest version of each API."""

HANDLERS[API_VERSIONS_KEY] = api_versions.handler(SERVED)
