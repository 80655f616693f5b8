"""Crew: what the commands share that start processes of their own, the demo and the load test."""
