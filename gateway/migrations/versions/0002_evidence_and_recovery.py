"""Evidence and recovery. Written by `make migration` until its release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.migrations.changes import make_append_only, outside_transaction

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KIND = "expand"


def upgrade() -> None:
    """Evidence and recovery."""
    op.create_table(
        "audit_entries",
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("body", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_audit_entries")),
    )
    op.create_index(op.f("ix_audit_entries_subject"), "audit_entries", ["subject"], unique=False)
    op.create_table(
        "audit_heads",
        sa.Column("head_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("seal", sa.String(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("jwk", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", name=op.f("pk_audit_heads")),
    )
    op.create_index(op.f("ix_audit_heads_made_at"), "audit_heads", ["made_at"], unique=False)
    op.create_table(
        "audit_seals",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("row_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("seal", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("source", "row_id", name=op.f("uq_audit_seals_source_row_id")),
    )
    op.create_table(
        "redemption_recoveries",
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("known", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column(
            "evidence", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('FOUND', 'ENDED', 'REVIEW')", name=op.f("ck_redemption_recoveries_state")
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_redemption_recoveries")),
    )
    op.add_column("jobs", sa.Column("lane", sa.String(), nullable=True))
    op.add_column("partner_events", sa.Column("use_version", sa.Integer(), nullable=True))
    op.add_column("partner_facts", sa.Column("fact_id", sa.String(), nullable=True))
    make_append_only(op, "audit_entries")
    make_append_only(op, "audit_heads")
    make_append_only(op, "audit_seals")
    make_append_only(op, "partner_facts")
    with outside_transaction(op):
        op.create_index(
            op.f("ix_partner_facts_fact_id"),
            "partner_facts",
            ["fact_id"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
