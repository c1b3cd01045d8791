"""Measures Bothways and its rivals on a user's own machine and texts: `bothways bench` and the suite in bench/."""
