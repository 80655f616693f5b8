"""DECIDE: every decision of the broker, as pure logic. A message and the moment go in, effects come out.

Nothing here opens a socket or reads a clock; ``transport.host`` performs what is decided here.
"""
