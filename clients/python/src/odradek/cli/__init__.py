"""The `odradek` command: everything here writes to a terminal or reads from one; the SDK does the work."""
