"""Stand-ins for merchants: they speak HTTP, check tokens, keep state and misbehave on demand.

`python -m partners.simulators --config FILE --state DIR` runs any number of merchants in one
process, each on a port of its own, and one control port. What they sell, hold, book and owe is
worked out once, in `core.Shop`; a vertical adds a surface and its vocabulary.

    config.py    the configuration file, parsed
    store.py     one SQLite file per merchant; every answer is committed before it is given
    slots.py     the times and seats of a business day (pure)
    faults.py    misbehaviour, keyed by member and offer
    words.py     refusals, misbehaviour, business time
    inventory.py what is sold and left: the change feed, stock by store, places by slot
    core.py      Shop: quotes, holds, bookings, fences, cancellations
    backoffice.py  what the merchant does by itself: serve, cancel, decide
    books.py     what issuers owe the merchant: statement lines and versions
    tokens.py    its token endpoint and the check of access tokens
    webhooks.py  signed webhooks to the gateway, retried until taken
    surface.py   how a vertical plugs in; read this to write one
    serve.py     servers and the control port
"""
