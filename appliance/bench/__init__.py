"""`redtap bench`: this appliance beside redis-server, in turn, in one run, on one machine.

No absolute number leaves this package alone: shared machines change speed from minute to minute, so each
round runs all peers in turn, and what counts is the median of the rounds' ratios, with their range.

Nothing is imported here: one module of this package is compiled with the core, which knows no namespaces.
"""
