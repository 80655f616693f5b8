"""The versions of each API that are served where its handler is registered.

The floors are Kafka 4's: old clients probe exact versions, and give up features, or the record format,
where a floor is higher. Produce alone begins at 0, though 0 to 2 are refused when they come: without
them librdkafka before 2.11 silently sends gzip, snappy and lz4 uncompressed.
"""

from __future__ import annotations

API_VERSIONS_KEY = 18

VERSIONS: dict[int, tuple[int, int]] = {
    0: (0, 7),  # Produce
    1: (4, 12),  # Fetch
    2: (1, 7),  # ListOffsets
    3: (0, 9),  # Metadata
    8: (2, 8),  # OffsetCommit
    9: (1, 8),  # OffsetFetch
    10: (0, 4),  # FindCoordinator
    11: (0, 9),  # JoinGroup
    12: (0, 4),  # Heartbeat
    13: (0, 5),  # LeaveGroup
    14: (0, 5),  # SyncGroup
    15: (0, 6),  # DescribeGroups
    16: (0, 5),  # ListGroups
    17: (0, 1),  # SaslHandshake
    18: (0, 3),  # ApiVersions
    19: (2, 7),  # CreateTopics
    20: (1, 6),  # DeleteTopics
    21: (0, 2),  # DeleteRecords
    22: (0, 3),  # InitProducerId
    23: (2, 4),  # OffsetForLeaderEpoch
    29: (1, 2),  # DescribeAcls
    30: (1, 2),  # CreateAcls
    31: (1, 2),  # DeleteAcls
    32: (1, 4),  # DescribeConfigs
    33: (0, 2),  # AlterConfigs
    35: (1, 4),  # DescribeLogDirs
    36: (0, 2),  # SaslAuthenticate
    37: (0, 3),  # CreatePartitions
    42: (0, 2),  # DeleteGroups
    44: (0, 1),  # IncrementalAlterConfigs
    47: (0, 0),  # OffsetDelete
    48: (0, 1),  # DescribeClientQuotas
    50: (0, 0),  # DescribeUserScramCredentials
    51: (0, 0),  # AlterUserScramCredentials
    60: (0, 1),  # DescribeCluster
}
