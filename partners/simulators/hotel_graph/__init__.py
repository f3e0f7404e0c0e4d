"""The hotel group's own GraphQL service, a process of its own: in JavaScript, or else in Python.

server.cjs      on Node with @apollo/subgraph; its packages are installed by `packages`
schema.py       the same on Strawberry; `python -m partners.simulators.hotel_graph` serves it
schema.graphql  what the group publishes to the coalition, from either
houses.json     what the group knows

Both take `--config FILE --state FILE --ports-file FILE`, answer `POST /subgraph` for tokens of the
group's own issuer, keep doors and faults in one state file, and are told to misbehave by
`/control/faults` (latency, error_5xx, malformed_body, connection_refused). `GET /control/seen`
lists what came.
"""
