"""Kafka's requests, one file for each family: what is asked inside the broker, and what is answered.

A file knows nothing of bytes or sockets. ``handling`` is the contract, ``registry`` the list.
"""
