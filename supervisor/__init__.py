"""WATCH: the composition root. Processes, signals, settings and the catalogue; nobody imports it."""
