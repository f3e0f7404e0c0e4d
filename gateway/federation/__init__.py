"""Federation: many subgraphs answered as one graph. A library; it knows no feature of ours.

SDL in, plans and data out. `composition` makes a supergraph of subgraphs, `supergraph` reads one,
`planner` turns an operation into a plan that prints, `executor` carries it out, `engine` puts them
behind caches, `http` answers GraphQL over HTTP with it.
"""
