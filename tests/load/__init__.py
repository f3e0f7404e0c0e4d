"""Load on real processes: gateway, worker, partner and PostgreSQL, over HTTP, GraphQL and OAuth.

    python -m tests.load           redemptions a second, beside the same rows as raw SQL
    python -m tests.load mixed     everything at once: no deadlock, no refusal that need not be
    python -m tests.load stop      SIGTERM under load: nothing lost, nothing left in doubt
    python -m tests.load hot       one issuer and shop against different ones
    python -m tests.load close     a window closed every 200 ms under fifty writers

Commits are durable (fsync and synchronous_commit on). The partner is a process that answers at
once, with OAuth, in the words of contract.graphql.
"""
