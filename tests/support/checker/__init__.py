"""The checker: a history of what clients did and were told in, a verdict on the promise out.

It knows nothing of the broker: no import of it, no socket, no log format. See ``history`` for what is
written down, ``judging`` for the verdict, and the other modules for one family of rules each.
"""
