"""From the answers of subgraphs to the client's data.

`merging` and `completing` do it by the book: a merged tree of copies, then value completion as the
GraphQL specification has it, with an error and a path for everything that is wrong. `writing` and
its users generate code that does the same for answers in which nothing is wrong, several times
faster: `checks` looks an answer over once, `collecting` gathers representations, `joining` builds
the data. Whatever they stumble over is given to the slow pair, which decides.
"""
