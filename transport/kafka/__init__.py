"""Kafka's wire protocol: frames, bytes and connections. What a request means stands in ``actors/kafka``."""
