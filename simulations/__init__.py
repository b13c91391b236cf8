"""Discrete-event simulations of the policies: the production objects, in virtual time.

engine     the virtual clock, and servers that overload or err
client     a caller built of the production policies, and what is counted
baselines  what others do, for comparison
cases      what goes wrong, and what is demanded: here are all bounds
runs       spreads runs over processes
record     what is kept of them, as JSON; report, plot, docs: tables, SVG, docs/simulations.md

``python -m simulations`` runs all of it (``make simulate``), and fails if a bound is missed.
"""
