"""Load on real processes: gateway, worker, partner and PostgreSQL, over HTTP, GraphQL and OAuth.

python -m tests.load                 redemptions a second, beside raw SQL in the same run
python -m tests.load mixed           everything at once; no deadlock, nothing unexpected
"""
