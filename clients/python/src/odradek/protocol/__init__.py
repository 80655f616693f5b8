"""The language every part of Odradek speaks: bytes to messages and back, and nothing else.

Nothing here opens a socket or a file, and nothing here imports the broker. The broker uses only
this package of the SDK.
"""
