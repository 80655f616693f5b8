"""Every error that travels: one table of code, name, sentence and whether a retry can help.

Codes and names are Kafka's (``org.apache.kafka.common.protocol.Errors``) and never change. An error
raised in Python is an ``OdradekError`` of the class named after it, so that a client can catch
``UnknownTopicOrPartition`` and a program in another language can compare the number 3.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

__all__ = [
    "ERRORS",
    "ClusterAuthorizationFailed",
    "CoordinatorNotAvailable",
    "CorruptMessage",
    "FencedMemberEpoch",
    "GroupAuthorizationFailed",
    "GroupIdNotFound",
    "GroupMaxSizeReached",
    "GroupSubscribedToTopic",
    "IllegalSaslState",
    "InvalidConfig",
    "InvalidGroupId",
    "InvalidPartitions",
    "InvalidProducerEpoch",
    "InvalidRecord",
    "InvalidReplicaAssignment",
    "InvalidReplicationFactor",
    "InvalidRequest",
    "InvalidSessionTimeout",
    "InvalidTimestamp",
    "InvalidTopic",
    "KafkaStorageError",
    "LeaderNotAvailable",
    "MessageTooLarge",
    "NetworkException",
    "NonEmptyGroup",
    "NotCoordinator",
    "OdradekError",
    "OffsetMetadataTooLarge",
    "OffsetOutOfRange",
    "OutOfOrderSequenceNumber",
    "PolicyViolation",
    "RequestTimedOut",
    "ResourceNotFound",
    "SaslAuthenticationFailed",
    "SecurityDisabled",
    "StaleMemberEpoch",
    "ThrottlingQuotaExceeded",
    "TopicAlreadyExists",
    "TopicAuthorizationFailed",
    "TransactionalIdAuthorizationFailed",
    "UnacceptableCredential",
    "UnknownMemberId",
    "UnknownProducerId",
    "UnknownServerError",
    "UnknownTopicId",
    "UnknownTopicOrPartition",
    "UnreleasedInstanceId",
    "UnsupportedAssignor",
    "UnsupportedCompressionType",
    "UnsupportedSaslMechanism",
    "UnsupportedVersion",
    "WireError",
    "error_from_wire",
]


class WireError(msgspec.Struct, frozen=True):
    """An error as it stands in the header of a reply."""

    code: int
    name: str
    message: str
    retriable: bool


class OdradekError(Exception):
    """The root of every error that the broker or the SDK reports.

    ``code`` is Kafka's number, ``name`` Kafka's name, ``retriable`` whether the same request may
    succeed later unchanged. The class sentence is what the code means; ``message`` is what happened.
    """

    code: ClassVar[int] = -1
    name: ClassVar[str] = "UNKNOWN_SERVER_ERROR"
    retriable: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.sentence())
        self.message = message or self.sentence()

    @classmethod
    def sentence(cls) -> str:
        """What this code means, in one sentence."""
        return (cls.__doc__ or cls.name).strip().splitlines()[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.code}): {self.message}"

    def __reduce__(self) -> tuple[type[OdradekError], tuple[str]]:
        return type(self), (self.message,)

    def wire(self) -> WireError:
        """The same error in the form that a reply carries."""
        return WireError(self.code, self.name, self.message, self.retriable)


class UnknownServerError(OdradekError):
    """The broker met an error that it has no better name for."""


class OffsetOutOfRange(OdradekError):
    """The offset lies outside the log of this partition."""

    code = 1
    name = "OFFSET_OUT_OF_RANGE"


class CorruptMessage(OdradekError):
    """A record batch failed its checksum, its length or its shape."""

    code = 2
    name = "CORRUPT_MESSAGE"


class UnknownTopicOrPartition(OdradekError):
    """There is no such topic or partition here."""

    code = 3
    name = "UNKNOWN_TOPIC_OR_PARTITION"
    retriable = True


class LeaderNotAvailable(OdradekError):
    """The partition's actor is starting or restarting; try again."""

    code = 5
    name = "LEADER_NOT_AVAILABLE"
    retriable = True


class RequestTimedOut(OdradekError):
    """No answer within the time limit; whether the request took effect is unknown."""

    code = 7
    name = "REQUEST_TIMED_OUT"
    retriable = True


class MessageTooLarge(OdradekError):
    """A record batch is larger than the topic's max.message.bytes."""

    code = 10
    name = "MESSAGE_TOO_LARGE"


class OffsetMetadataTooLarge(OdradekError):
    """The metadata string of a committed offset is too long."""

    code = 12
    name = "OFFSET_METADATA_TOO_LARGE"


class NetworkException(OdradekError):
    """The connection was lost before an answer came."""

    code = 13
    name = "NETWORK_EXCEPTION"
    retriable = True


class CoordinatorNotAvailable(OdradekError):
    """The group coordinator is starting or restarting; try again."""

    code = 15
    name = "COORDINATOR_NOT_AVAILABLE"
    retriable = True


class NotCoordinator(OdradekError):
    """This actor does not coordinate that group."""

    code = 16
    name = "NOT_COORDINATOR"
    retriable = True


class InvalidTopic(OdradekError):
    """The topic name is not allowed."""

    code = 17
    name = "INVALID_TOPIC_EXCEPTION"


class IllegalGeneration(OdradekError):
    """The generation is not the group's; join it again."""

    code = 22
    name = "ILLEGAL_GENERATION"


class InconsistentGroupProtocol(OdradekError):
    """The member's protocol is not one that the group speaks."""

    code = 23
    name = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidGroupId(OdradekError):
    """The group name is not allowed."""

    code = 24
    name = "INVALID_GROUP_ID"


class UnknownMemberId(OdradekError):
    """The coordinator does not know this member; join the group again."""

    code = 25
    name = "UNKNOWN_MEMBER_ID"


class InvalidSessionTimeout(OdradekError):
    """The session time-out is shorter or longer than the coordinator allows."""

    code = 26
    name = "INVALID_SESSION_TIMEOUT"


class RebalanceInProgress(OdradekError):
    """The group is rebalancing; join it again."""

    code = 27
    name = "REBALANCE_IN_PROGRESS"


class TopicAuthorizationFailed(OdradekError):
    """This client may not do that to this topic."""

    code = 29
    name = "TOPIC_AUTHORIZATION_FAILED"


class GroupAuthorizationFailed(OdradekError):
    """This client may not do that to this group."""

    code = 30
    name = "GROUP_AUTHORIZATION_FAILED"


class ClusterAuthorizationFailed(OdradekError):
    """This client may not do that."""

    code = 31
    name = "CLUSTER_AUTHORIZATION_FAILED"


class InvalidTimestamp(OdradekError):
    """The timestamp of a record is further from the broker's clock than its topic allows."""

    code = 32
    name = "INVALID_TIMESTAMP"


class UnsupportedSaslMechanism(OdradekError):
    """The broker does not take this SASL mechanism."""

    code = 33
    name = "UNSUPPORTED_SASL_MECHANISM"


class IllegalSaslState(OdradekError):
    """The request does not fit the state of the authentication."""

    code = 34
    name = "ILLEGAL_SASL_STATE"


class UnsupportedVersion(OdradekError):
    """The version of this request is not supported."""

    code = 35
    name = "UNSUPPORTED_VERSION"


class TopicAlreadyExists(OdradekError):
    """A topic of this name exists already."""

    code = 36
    name = "TOPIC_ALREADY_EXISTS"


class InvalidPartitions(OdradekError):
    """The number of partitions is not allowed."""

    code = 37
    name = "INVALID_PARTITIONS"


class InvalidReplicationFactor(OdradekError):
    """The number of replicas is not allowed: every partition has one."""

    code = 38
    name = "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignment(OdradekError):
    """The replicas of partitions cannot be placed as the request says."""

    code = 39
    name = "INVALID_REPLICA_ASSIGNMENT"


class InvalidConfig(OdradekError):
    """A setting is unknown or its value is not allowed; nothing was changed."""

    code = 40
    name = "INVALID_CONFIG"


class InvalidRequest(OdradekError):
    """The request could not be read or contradicts itself."""

    code = 42
    name = "INVALID_REQUEST"


class PolicyViolation(OdradekError):
    """A limit of this broker forbids the request."""

    code = 44
    name = "POLICY_VIOLATION"


class OutOfOrderSequenceNumber(OdradekError):
    """A producer's batch does not follow the last one that the partition has from it."""

    code = 45
    name = "OUT_OF_ORDER_SEQUENCE_NUMBER"


class InvalidProducerEpoch(OdradekError):
    """A newer session of this producer has taken over."""

    code = 47
    name = "INVALID_PRODUCER_EPOCH"


class TransactionalIdAuthorizationFailed(OdradekError):
    """This client may not do that with this transactional id."""

    code = 53
    name = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


class SecurityDisabled(OdradekError):
    """The broker does not enforce access rules."""

    code = 54
    name = "SECURITY_DISABLED"


class KafkaStorageError(OdradekError):
    """The disk failed under this partition."""

    code = 56
    name = "KAFKA_STORAGE_ERROR"
    retriable = True


class SaslAuthenticationFailed(OdradekError):
    """The user, the password or the key is not taken."""

    code = 58
    name = "SASL_AUTHENTICATION_FAILED"


class UnknownProducerId(OdradekError):
    """The partition has no state of this producer, yet its sequence does not start at 0."""

    code = 59
    name = "UNKNOWN_PRODUCER_ID"


class NonEmptyGroup(OdradekError):
    """The group has members; this needs an empty one."""

    code = 68
    name = "NON_EMPTY_GROUP"


class GroupIdNotFound(OdradekError):
    """There is no such group."""

    code = 69
    name = "GROUP_ID_NOT_FOUND"


class UnsupportedCompressionType(OdradekError):
    """The compression of a batch is unknown here or its codec is not installed."""

    code = 76
    name = "UNSUPPORTED_COMPRESSION_TYPE"


class MemberIdRequired(OdradekError):
    """Join once more with the member id that this reply gives."""

    code = 79
    name = "MEMBER_ID_REQUIRED"


class GroupMaxSizeReached(OdradekError):
    """The group is full."""

    code = 81
    name = "GROUP_MAX_SIZE_REACHED"


class FencedInstanceId(OdradekError):
    """Another member has taken over this instance id; end this one."""

    code = 82
    name = "FENCED_INSTANCE_ID"


class GroupSubscribedToTopic(OdradekError):
    """Members of the group still read this topic."""

    code = 86
    name = "GROUP_SUBSCRIBED_TO_TOPIC"


class InvalidRecord(OdradekError):
    """A record breaks a rule of its topic."""

    code = 87
    name = "INVALID_RECORD"


class ThrottlingQuotaExceeded(OdradekError):
    """Too much is in flight already; slow down and try again."""

    code = 89
    name = "THROTTLING_QUOTA_EXCEEDED"
    retriable = True


class ResourceNotFound(OdradekError):
    """There is nothing of this name."""

    code = 91
    name = "RESOURCE_NOT_FOUND"


class UnacceptableCredential(OdradekError):
    """The credentials of a user are not as they must be."""

    code = 93
    name = "UNACCEPTABLE_CREDENTIAL"


class UnknownTopicId(OdradekError):
    """There is no topic with this id here."""

    code = 100
    name = "UNKNOWN_TOPIC_ID"
    retriable = True


class FencedMemberEpoch(OdradekError):
    """The member's epoch is not the coordinator's; give up all partitions and join again."""

    code = 110
    name = "FENCED_MEMBER_EPOCH"


class UnreleasedInstanceId(OdradekError):
    """Another live member holds this instance id."""

    code = 111
    name = "UNRELEASED_INSTANCE_ID"


class UnsupportedAssignor(OdradekError):
    """The coordinator has no assignor of this name."""

    code = 112
    name = "UNSUPPORTED_ASSIGNOR"


class StaleMemberEpoch(OdradekError):
    """The member's epoch is older than the coordinator's; heartbeat, then try again."""

    code = 113
    name = "STALE_MEMBER_EPOCH"


class InvalidRegularExpression(OdradekError):
    """The pattern of topics is not one that the coordinator takes."""

    code = 128
    name = "INVALID_REGULAR_EXPRESSION"


ERRORS: dict[int, type[OdradekError]] = {
    cls.code: cls for cls in sorted(OdradekError.__subclasses__(), key=lambda cls: cls.code)
}
"""Every error by its code. A code, once given, never changes its meaning."""


def error_from_wire(error: WireError) -> OdradekError:
    """The exception for an error of a reply; an unknown code keeps its number and name."""
    known = ERRORS.get(error.code)
    if known is not None:
        return known(error.message)
    return UnknownServerError(f"{error.name} ({error.code}): {error.message}")
