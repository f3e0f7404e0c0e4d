"""Evidence, events, reviews, recovery and subgraphs. Written by `make migration` until its release."""

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
    """Evidence, events, reviews, recovery and subgraphs."""
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
        "event_router",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_event_router_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_event_router")),
    )
    op.create_table(
        "events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("merchants", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=True),
        sa.Column("data", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("seq > 0", name=op.f("ck_events_seq")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_events")),
        sa.UniqueConstraint("object_id", "seq", name=op.f("uq_events_object_id_seq")),
    )
    op.create_table(
        "invariant_checks",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.CheckConstraint("one = 1", name=op.f("ck_invariant_checks_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_invariant_checks")),
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
        sa.PrimaryKeyConstraint(
            "redemption_id", "merchant_id", name=op.f("pk_redemption_recoveries")
        ),
    )
    op.create_table(
        "subgraph_operations",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("registered", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "hash", name=op.f("pk_subgraph_operations")),
    )
    op.create_index(
        "ix_subgraph_operations_seen_at", "subgraph_operations", ["seen_at"], unique=False
    )
    op.create_table(
        "supergraph_versions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "members", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("sdl", sa.Text(), nullable=False),
        sa.Column("ours", sa.String(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_supergraph_versions")),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column(
            "types", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('ACTIVE', 'PAUSED', 'GONE')", name=op.f("ck_webhook_endpoints_state")
        ),
        sa.CheckConstraint(
            "(previous IS NULL) = (previous_until IS NULL)",
            name=op.f("ck_webhook_endpoints_previous"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        op.f("ix_webhook_endpoints_merchant_id"), "webhook_endpoints", ["merchant_id"], unique=False
    )
    op.create_table(
        "event_feed",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("routed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["events.number"], name=op.f("fk_event_feed_number")),
        sa.PrimaryKeyConstraint("merchant_id", "position", name=op.f("pk_event_feed")),
    )
    op.create_index(op.f("ix_event_feed_number"), "event_feed", ["number"], unique=False)
    op.create_index(
        "ix_event_feed_position", "event_feed", ["position", "merchant_id"], unique=False
    )
    op.create_table(
        "redemption_review_resolutions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'APPROVED') = (approved_by IS NOT NULL)",
            name=op.f("ck_redemption_review_resolutions_approved"),
        ),
        sa.CheckConstraint(
            "outcome IN ('COMMIT', 'RELEASE', 'CANCEL', 'KEEP')",
            name=op.f("ck_redemption_review_resolutions_outcome"),
        ),
        sa.CheckConstraint(
            "state IN ('PROPOSED', 'APPROVED', 'WITHDRAWN')",
            name=op.f("ck_redemption_review_resolutions_state"),
        ),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> proposed_by",
            name=op.f("ck_redemption_review_resolutions_four_eyes"),
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"],
            ["redemptions.id"],
            name=op.f("fk_redemption_review_resolutions_redemption_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemption_review_resolutions")),
    )
    op.create_index(
        op.f("ix_redemption_review_resolutions_redemption_id"),
        "redemption_review_resolutions",
        ["redemption_id"],
        unique=False,
    )
    op.create_table(
        "redemption_reviews",
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("came_from", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_redemption_reviews_redemption_id")
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_redemption_reviews")),
    )
    op.create_table(
        "subgraph_prefixes",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
            name=op.f("fk_subgraph_prefixes_merchant_id"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("pk_subgraph_prefixes")),
        sa.UniqueConstraint("prefix", name=op.f("uq_subgraph_prefixes_prefix")),
    )
    op.create_table(
        "subgraph_versions",
        sa.Column("subgraph_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("sdl", sa.Text(), nullable=False),
        sa.Column("published_by", sa.String(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
            name=op.f("fk_subgraph_versions_merchant_id"),
        ),
        sa.PrimaryKeyConstraint("subgraph_id", name=op.f("pk_subgraph_versions")),
        sa.UniqueConstraint(
            "merchant_id", "number", name=op.f("uq_subgraph_versions_merchant_id_number")
        ),
    )
    op.create_table(
        "supergraph_live",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("activation", sa.Integer(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_supergraph_live_one")),
        sa.ForeignKeyConstraint(
            ["number"], ["supergraph_versions.number"], name=op.f("fk_supergraph_live_number")
        ),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_supergraph_live")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('DUE', 'DELIVERED', 'DEAD')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id"),
        ),
        sa.ForeignKeyConstraint(
            ["number"], ["events.number"], name=op.f("fk_webhook_deliveries_number")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "number", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["state", "endpoint_id", "object_id", "number"],
        unique=False,
    )
    op.add_column("jobs", sa.Column("lane", sa.String(), nullable=True))
    op.add_column("partner_calls", sa.Column("traceparent", sa.String(), nullable=True))
    op.add_column("partner_events", sa.Column("use_version", sa.Integer(), nullable=True))
    op.add_column("partner_events", sa.Column("tries", sa.Integer(), nullable=True))
    op.add_column("partner_events", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("partner_facts", sa.Column("fact_id", sa.String(), nullable=True))
    op.add_column(
        "redemptions", sa.Column("told", sa.Integer(), server_default="0", nullable=False)
    )
    make_append_only(op, "audit_entries")
    make_append_only(op, "audit_heads")
    make_append_only(op, "audit_seals")
    make_append_only(op, "event_feed")
    make_append_only(op, "events")
    make_append_only(op, "partner_facts")
    make_append_only(op, "subgraph_versions")
    make_append_only(op, "supergraph_versions")
    with outside_transaction(op):
        op.create_index(
            "ix_partner_events_set_aside",
            "partner_events",
            ["applied_at"],
            unique=False,
            sqlite_where=sa.text("(outcome LIKE 'failed: %' OR outcome LIKE 'set aside: %')"),
            postgresql_where=sa.text("(outcome LIKE 'failed: %' OR outcome LIKE 'set aside: %')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_partner_events_waiting",
            "partner_events",
            ["received_at"],
            unique=False,
            sqlite_where=sa.text("applied_at IS NULL"),
            postgresql_where=sa.text("applied_at IS NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            op.f("ix_partner_facts_fact_id"),
            "partner_facts",
            ["fact_id"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
