"""What Alembic runs: the migrations, on the connection and in the transaction handed in."""

from alembic import context

from gateway.migrations import all_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=all_tables(),
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
