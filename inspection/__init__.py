"""Inspect: look inside the files of partitions, of a broker that runs or of one that is stopped.

Nothing here is used by the broker. ``dump``, ``stat`` and ``verify`` read through ``ReadOnlyFiles``, take
no lock and cope with files that change under them; only ``repair`` writes, and only where no broker runs.
"""
