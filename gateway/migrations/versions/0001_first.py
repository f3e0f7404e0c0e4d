"""The first schema. Written by `make migration`; not changed by hand."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.migrations.triggers import forbid_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY: tuple[str, ...] = ()


def upgrade() -> None:
    """Make every table, index and trigger."""
    op.create_table(
        "clock_offset",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("offset_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_clock_offset_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_clock_offset")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column(
            "payload", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.CheckConstraint("state IN ('DUE', 'DONE', 'DEAD')", name=op.f("ck_jobs_state")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("key", name=op.f("uq_jobs_key")),
    )
    op.create_index("ix_jobs_due", "jobs", ["state", "due_at"], unique=False)
    for table in APPEND_ONLY:
        for statement in forbid_changes(table, op.get_bind().dialect.name):
            op.execute(statement)
