"""A deterministic simulation: the real services over the real SQLite store, driven by one seed.

loop        the event loop: virtual time, one ready callback picked by the seed
entropy     clocks, ids and secrets of the product, taken from the loop and the seed
storage     SQLite without threads: where a crash strikes, and what every commit must keep
partner     merchants' systems with a truth of their own, behind a network that fails
world       processes that die and start again, and the people who use them
checks      what must hold after every commit, and at the end
engine      one seed, from the first action until everything has ended
mutants     faults planted in the product, which the simulation must find
"""
