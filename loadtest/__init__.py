"""The load tester: many client processes against one broker, and what came of it.

``command`` reads the options, ``run`` starts the clients and follows them, ``producing`` and ``consuming``
are what runs in their processes, ``report``, ``page`` and ``plots`` show the result. Nothing in the broker
imports it.
"""
