"""The same workloads on what people would use instead, in turns inside one run.

Each peer has a module: how it is started, where its program is from, what it promises when it acknowledges.
The load is the product's own load tester; for brokers that it does not know, a ``*_client`` module is beside.
"""
