"""The first schema. Written by `make migration`; not changed by hand."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.migrations.triggers import forbid_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY: tuple[str, ...] = (
    "catalog_quotes",
    "compliance_decisions",
    "ledger_journals",
    "ledger_lines",
    "ledger_seals",
    "points_lot_movements",
    "promotions",
)


def upgrade() -> None:
    """Make every table, index and trigger."""
    op.create_table(
        "calendar_days",
        sa.Column("day_on", sa.Date(), nullable=False),
        sa.Column("lunar_year", sa.Integer(), nullable=False),
        sa.Column("lunar_month", sa.Integer(), nullable=False),
        sa.Column("lunar_day", sa.Integer(), nullable=False),
        sa.Column("leap", sa.Boolean(), nullable=False),
        sa.Column("flag", sa.String(), nullable=False),
        sa.Column("festival", sa.String(), nullable=False),
        sa.Column("solar_term", sa.String(), nullable=False),
        sa.CheckConstraint("flag IN ('', 'H', 'HP', 'W')", name=op.f("ck_calendar_days_flag")),
        sa.CheckConstraint("lunar_day BETWEEN 1 AND 30", name=op.f("ck_calendar_days_day")),
        sa.CheckConstraint("lunar_month BETWEEN 1 AND 12", name=op.f("ck_calendar_days_month")),
        sa.PrimaryKeyConstraint("day_on", name=op.f("pk_calendar_days")),
    )
    op.create_table(
        "catalog_feeds",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("pk_catalog_feeds")),
    )
    op.create_table(
        "catalog_offers",
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("hosted", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.String(), nullable=True),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("cash_fen", sa.BigInteger(), nullable=False),
        sa.Column("own_points", sa.BigInteger(), nullable=True),
        sa.Column("own_priced_by", sa.String(), nullable=True),
        sa.Column("green", sa.Boolean(), nullable=False),
        sa.Column("high_value", sa.Boolean(), nullable=False),
        sa.Column("guaranteed", sa.Boolean(), nullable=False),
        sa.Column("max_offset_pct", sa.Integer(), nullable=False),
        sa.Column("part_payment", sa.Boolean(), nullable=False),
        sa.Column(
            "attributes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("cash_fen >= 0", name=op.f("ck_catalog_offers_cash")),
        sa.CheckConstraint(
            "max_offset_pct BETWEEN 0 AND 100", name=op.f("ck_catalog_offers_offset")
        ),
        sa.CheckConstraint("own_points >= 0", name=op.f("ck_catalog_offers_own_points")),
        sa.PrimaryKeyConstraint("offer_id", name=op.f("pk_catalog_offers")),
    )
    op.create_index(
        op.f("ix_catalog_offers_merchant_id"), "catalog_offers", ["merchant_id"], unique=False
    )
    op.create_table(
        "catalog_price_book",
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("below_declared_value", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.CheckConstraint("points > 0", name=op.f("ck_catalog_price_book_points")),
        sa.PrimaryKeyConstraint("programme_id", "offer_id", name=op.f("pk_catalog_price_book")),
    )
    op.create_table(
        "catalog_quotes",
        sa.Column("quote_id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=True),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("bill_fen", sa.BigInteger(), nullable=True),
        sa.Column("list_fen", sa.BigInteger(), nullable=False),
        sa.Column("shown_fen", sa.BigInteger(), nullable=False),
        sa.Column("cash_fen", sa.BigInteger(), nullable=False),
        sa.Column("legs", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("partner_quote_id", sa.String(), nullable=True),
        sa.Column("terms_hash", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancel_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("pricing", sa.String(), nullable=False),
        sa.Column("quoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "pricing IN ('fixed', 'estimate')", name=op.f("ck_catalog_quotes_pricing")
        ),
        sa.CheckConstraint("cash_fen BETWEEN 0 AND list_fen", name=op.f("ck_catalog_quotes_cash")),
        sa.CheckConstraint("list_fen > 0", name=op.f("ck_catalog_quotes_list")),
        sa.PrimaryKeyConstraint("quote_id", name=op.f("pk_catalog_quotes")),
        info={"append_only": True},
    )
    op.create_index(
        op.f("ix_catalog_quotes_member_id"), "catalog_quotes", ["member_id"], unique=False
    )
    op.create_table(
        "clock_offset",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("offset_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_clock_offset_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_clock_offset")),
    )
    op.create_table(
        "compliance_budgets",
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("budget_fen", sa.BigInteger(), nullable=False),
        sa.Column("compensation_bps", sa.Integer(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(approved_by IS NULL) = (approved_at IS NULL)",
            name=op.f("ck_compliance_budgets_approved"),
        ),
        sa.CheckConstraint(
            "approved_by <> proposed_by", name=op.f("ck_compliance_budgets_four_eyes")
        ),
        sa.CheckConstraint("budget_fen > 0", name=op.f("ck_compliance_budgets_budget_fen")),
        sa.CheckConstraint(
            "compensation_bps BETWEEN 0 AND 10000",
            name=op.f("ck_compliance_budgets_compensation_bps"),
        ),
        sa.CheckConstraint(
            "opened_at IS NULL OR approved_at IS NOT NULL",
            name=op.f("ck_compliance_budgets_opened"),
        ),
        sa.PrimaryKeyConstraint("budget_id", name=op.f("pk_compliance_budgets")),
    )
    op.create_index(
        "ix_compliance_budgets_issuer", "compliance_budgets", ["issuer", "year"], unique=False
    )
    op.create_table(
        "compliance_decisions",
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column(
            "context", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_compliance_decisions")),
        info={"append_only": True},
    )
    op.create_index(
        op.f("ix_compliance_decisions_subject"), "compliance_decisions", ["subject"], unique=False
    )
    op.create_table(
        "compliance_licences",
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("valid_from < valid_until", name=op.f("ck_compliance_licences_period")),
        sa.PrimaryKeyConstraint("number", "valid_from", name=op.f("pk_compliance_licences")),
    )
    op.create_table(
        "compliance_slices",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("slice", sa.String(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("slice_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("slice_fen > 0", name=op.f("ck_compliance_slices_slice_fen")),
        sa.PrimaryKeyConstraint("issuer", "slice", "year", name=op.f("pk_compliance_slices")),
    )
    op.create_table(
        "donations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("beneficiary", sa.String(), nullable=False),
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("face_fen", sa.BigInteger(), nullable=False),
        sa.Column("match_fen", sa.BigInteger(), nullable=False),
        sa.Column("match_promotion", sa.String(), nullable=True),
        sa.Column("match_period", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("donated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reversed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('DONE', 'REVERSED')", name=op.f("ck_donations_state")),
        sa.CheckConstraint(
            "points > 0 AND face_fen >= 0 AND match_fen >= 0", name=op.f("ck_donations_amounts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_donations")),
    )
    op.create_index(op.f("ix_donations_member_id"), "donations", ["member_id"], unique=False)
    op.create_table(
        "hosted_operations",
        sa.Column("op_key", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("quote_id", sa.String(), nullable=True),
        sa.Column("hold_ref", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("op_key", name=op.f("pk_hosted_operations")),
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
    op.create_table(
        "ledger_balances",
        sa.Column("book", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_ledger_balances_guard")),
        sa.PrimaryKeyConstraint("book", "account", name=op.f("pk_ledger_balances")),
    )
    op.create_table(
        "ledger_journals",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column("op_key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("approver", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('OPENING', 'EARN', 'MATURE', 'HOLD', 'RELEASE', 'COMMIT', 'FARE_ADJUST', 'REVERSE', 'COMPENSATE', 'EXPIRE', 'DONATE', 'MATCH', 'FEE', 'ADJUST', 'CLAW_BACK', 'DRAW_ENTRY', 'DRAW_PRIZE', 'RECON', 'NET', 'BOOKED', 'BUDGET')",
            name=op.f("ck_ledger_journals_kind"),
        ),
        sa.CheckConstraint("approver <> actor", name=op.f("ck_ledger_journals_four_eyes")),
        sa.PrimaryKeyConstraint("journal_id", name=op.f("pk_ledger_journals")),
        sa.UniqueConstraint("op_key", name=op.f("uq_ledger_journals_op_key")),
        info={"append_only": True},
    )
    op.create_index(
        op.f("ix_ledger_journals_cause_id"), "ledger_journals", ["cause_id"], unique=False
    )
    op.create_table(
        "members",
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("city", sa.String(), nullable=False),
        sa.Column("birth_on", sa.Date(), nullable=True),
        sa.Column(
            "tiers", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "dates", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("contract", sa.String(), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('person', 'enterprise')", name=op.f("ck_members_kind")),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_members")),
    )
    op.create_table(
        "merchants",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column(
            "cities", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column(
            "roles", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "settlement_account",
            sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
            nullable=True,
        ),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column(
            "operator", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column("exited_on", sa.Date(), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("pk_merchants")),
        sa.UniqueConstraint("slug", name=op.f("uq_merchants_slug")),
    )
    op.create_table(
        "oauth_clients",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("auth_method", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("merchant_id", sa.String(), nullable=True),
        sa.Column(
            "redirect_uris",
            sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "user_roles", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "only_scopes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "auth_method <> 'none' OR role IS NULL",
            name=op.f("ck_oauth_clients_machines_authenticate"),
        ),
        sa.CheckConstraint(
            "auth_method IN ('private_key_jwt', 'client_secret_basic', 'none')",
            name=op.f("ck_oauth_clients_auth_method"),
        ),
        sa.CheckConstraint(
            "role <> 'partner' OR merchant_id IS NOT NULL", name=op.f("ck_oauth_clients_whose")
        ),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_oauth_clients")),
    )
    op.create_index(
        op.f("ix_oauth_clients_merchant_id"), "oauth_clients", ["merchant_id"], unique=False
    )
    op.create_table(
        "oauth_revoked",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_revoked")),
    )
    op.create_index(
        op.f("ix_oauth_revoked_expires_at"), "oauth_revoked", ["expires_at"], unique=False
    )
    op.create_table(
        "oauth_signing_keys",
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("jwk", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'RETIRED') = (retired_at IS NOT NULL)",
            name=op.f("ck_oauth_signing_keys_retired"),
        ),
        sa.CheckConstraint(
            "state IN ('NEXT', 'ACTIVE', 'RETIRED')", name=op.f("ck_oauth_signing_keys_state")
        ),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_oauth_signing_keys")),
    )
    op.create_index(
        "uq_oauth_signing_keys_one_of_each",
        "oauth_signing_keys",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state <> 'RETIRED'"),
        postgresql_where=sa.text("state <> 'RETIRED'"),
    )
    op.create_table(
        "oauth_tries",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_oauth_tries")),
    )
    op.create_table(
        "oauth_used_jtis",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "jti", name=op.f("pk_oauth_used_jtis")),
    )
    op.create_index(
        op.f("ix_oauth_used_jtis_expires_at"), "oauth_used_jtis", ["expires_at"], unique=False
    )
    op.create_table(
        "oauth_users",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("login", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=True),
        sa.Column("merchant_id", sa.String(), nullable=True),
        sa.Column("limit_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(role = 'member') = (member_id IS NOT NULL)", name=op.f("ck_oauth_users_member")
        ),
        sa.CheckConstraint(
            "(role = 'partner') = (merchant_id IS NOT NULL)", name=op.f("ck_oauth_users_merchant")
        ),
        sa.CheckConstraint("limit_fen >= 0", name=op.f("ck_oauth_users_limit_fen")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_oauth_users")),
        sa.UniqueConstraint("login", name=op.f("uq_oauth_users_login")),
    )
    op.create_index(op.f("ix_oauth_users_member_id"), "oauth_users", ["member_id"], unique=False)
    op.create_table(
        "partner_events",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("body", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("redemption_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("merchant_id", "event_id", name=op.f("pk_partner_events")),
    )
    op.create_index(
        op.f("ix_partner_events_redemption_id"), "partner_events", ["redemption_id"], unique=False
    )
    op.create_table(
        "points_holds",
        sa.Column("hold_id", sa.String(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("leg_no", sa.Integer(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("returned", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sink", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'POSTED') = (sink IS NOT NULL)", name=op.f("ck_points_holds_sink")
        ),
        sa.CheckConstraint(
            "returned = 0 OR state = 'POSTED'", name=op.f("ck_points_holds_returned")
        ),
        sa.CheckConstraint(
            "state IN ('HELD', 'POSTED', 'VOIDED')", name=op.f("ck_points_holds_state")
        ),
        sa.CheckConstraint(
            "points > 0 AND 0 <= returned AND returned <= points",
            name=op.f("ck_points_holds_points"),
        ),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_points_holds")),
        sa.UniqueConstraint(
            "redemption_id",
            "epoch",
            "leg_no",
            name=op.f("uq_points_holds_redemption_id_epoch_leg_no"),
        ),
    )
    op.create_index("ix_points_holds_member", "points_holds", ["member_id", "state"], unique=False)
    op.create_table(
        "points_lots",
        sa.Column("lot_id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.Column("rate_num", sa.BigInteger(), nullable=False),
        sa.Column("rate_den", sa.BigInteger(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("earned_on", sa.Date(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("basis", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("op_key", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("0 <= held AND held <= remaining", name=op.f("ck_points_lots_held")),
        sa.CheckConstraint(
            "remaining <= points AND points > 0", name=op.f("ck_points_lots_remaining")
        ),
        sa.PrimaryKeyConstraint("lot_id", name=op.f("pk_points_lots")),
        sa.UniqueConstraint("op_key", name=op.f("uq_points_lots_op_key")),
    )
    op.create_index("ix_points_lots_expiry", "points_lots", ["expires_at"], unique=False)
    op.create_index(
        "ix_points_lots_member", "points_lots", ["member_id", "programme_id"], unique=False
    )
    op.create_table(
        "points_programmes",
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("programme_id", name=op.f("pk_points_programmes")),
        sa.UniqueConstraint("issuer", name=op.f("uq_points_programmes_issuer")),
    )
    op.create_table(
        "promotions",
        sa.Column("promotion_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("rule_text", sa.String(), nullable=False),
        sa.Column("effect_kind", sa.String(), nullable=False),
        sa.Column("target_kind", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("judged_by", sa.String(), nullable=False),
        sa.Column(
            "effect", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "calendar", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("sub_budget_fen", sa.BigInteger(), nullable=True),
        sa.Column(
            "details", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("scope IN ('own', 'coalition')", name=op.f("ck_promotions_scope")),
        sa.CheckConstraint("sub_budget_fen >= 0", name=op.f("ck_promotions_sub_budget")),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("pk_promotions")),
        info={"append_only": True},
    )
    op.create_index(
        "ix_promotions_effect",
        "promotions",
        ["effect_kind", "target_kind", "target_id"],
        unique=False,
    )
    op.create_table(
        "reconciliation_runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "rules", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("supersedes", sa.String(), nullable=True),
        sa.Column("inputs_hash", sa.String(), nullable=True),
        sa.Column("result_hash", sa.String(), nullable=True),
        sa.Column("matched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signed_off_by", sa.String(), nullable=True),
        sa.Column("signed_off_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "summary", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.CheckConstraint(
            "state IN ('CREATED', 'INGESTING', 'REVIEW', 'LOCKED', 'SUPERSEDED')",
            name=op.f("ck_reconciliation_runs_state"),
        ),
        sa.ForeignKeyConstraint(
            ["supersedes"],
            ["reconciliation_runs.run_id"],
            name=op.f("fk_reconciliation_runs_supersedes"),
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_reconciliation_runs")),
        sa.UniqueConstraint(
            "business_date", "number", name=op.f("uq_reconciliation_runs_business_date_number")
        ),
    )
    op.create_table(
        "redemptions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("quote_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=True),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("list_fen", sa.BigInteger(), nullable=False),
        sa.Column("cash_fen", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("pricing", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("doubt", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("fault", sa.String(), nullable=True),
        sa.Column("partner_quote_id", sa.String(), nullable=True),
        sa.Column("hold_ref", sa.String(), nullable=True),
        sa.Column("booking_ref", sa.String(), nullable=True),
        sa.Column("fact_version", sa.Integer(), nullable=False),
        sa.Column("partner_hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("points_hold_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("doubt_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("fenced", sa.Boolean(), nullable=False),
        sa.Column("auto_confirm", sa.Boolean(), nullable=False),
        sa.Column("final_fare_fen", sa.BigInteger(), nullable=True),
        sa.Column("cancel_quote_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fulfilled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_of", sa.String(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'IN_DOUBT') = (doubt IS NOT NULL)", name=op.f("ck_redemptions_doubt")
        ),
        sa.CheckConstraint(
            "state <> 'COMMITTED' OR committed_at IS NOT NULL",
            name=op.f("ck_redemptions_committed"),
        ),
        sa.CheckConstraint(
            "state IN ('HOLDING', 'HELD', 'CONFIRMING', 'IN_DOUBT', 'COMMITTED', 'FULFILLED', 'RELEASING', 'RELEASED', 'CANCELLING', 'CANCELLED', 'LATE_CONFIRMED', 'NEEDS_REVIEW')",
            name=op.f("ck_redemptions_state"),
        ),
        sa.CheckConstraint(
            "list_fen >= 0 AND cash_fen >= 0 AND cash_fen <= list_fen",
            name=op.f("ck_redemptions_amounts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemptions")),
        sa.UniqueConstraint("quote_id", name=op.f("uq_redemptions_quote_id")),
    )
    op.create_index("ix_redemptions_due", "redemptions", ["state", "due_at"], unique=False)
    op.create_index(
        "ix_redemptions_member", "redemptions", ["member_id", "created_at"], unique=False
    )
    op.create_table(
        "settlement_agreement_usage",
        sa.Column("agreement_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("used_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("used_fen >= 0", name=op.f("ck_settlement_agreement_usage_used")),
        sa.PrimaryKeyConstraint(
            "agreement_id", "month", name=op.f("pk_settlement_agreement_usage")
        ),
    )
    op.create_table(
        "settlement_agreements",
        sa.Column("agreement_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("redeemer", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("settlement_bps", sa.Integer(), nullable=False),
        sa.Column("fee_bps", sa.Integer(), nullable=False),
        sa.Column("monthly_cap_fen", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column(
            "offers", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column(
            "categories", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column("payee", sa.String(), nullable=True),
        sa.Column(
            "signed_by", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('redemption', 'donation')", name=op.f("ck_settlement_agreements_kind")
        ),
        sa.CheckConstraint(
            "fee_bps BETWEEN 0 AND 10000", name=op.f("ck_settlement_agreements_fee_bps")
        ),
        sa.CheckConstraint("issuer <> redeemer", name=op.f("ck_settlement_agreements_parties")),
        sa.CheckConstraint("monthly_cap_fen >= 0", name=op.f("ck_settlement_agreements_cap")),
        sa.CheckConstraint(
            "settlement_bps BETWEEN 1 AND 10000",
            name=op.f("ck_settlement_agreements_settlement_bps"),
        ),
        sa.CheckConstraint("valid_from < valid_until", name=op.f("ck_settlement_agreements_term")),
        sa.PrimaryKeyConstraint("agreement_id", "version", name=op.f("pk_settlement_agreements")),
    )
    op.create_index(
        "ix_settlement_agreements_pair",
        "settlement_agreements",
        ["issuer", "redeemer"],
        unique=False,
    )
    op.create_table(
        "settlement_cover",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("collateral_fen", sa.BigInteger(), nullable=False),
        sa.Column("net_debit_cap_fen", sa.BigInteger(), nullable=False),
        sa.Column("reserved_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("debit_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("credit_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("credit_fen >= 0", name=op.f("ck_settlement_cover_credit")),
        sa.CheckConstraint("debit_fen >= 0", name=op.f("ck_settlement_cover_debit")),
        sa.CheckConstraint("reserved_fen >= 0", name=op.f("ck_settlement_cover_reserved")),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("pk_settlement_cover")),
    )
    op.create_table(
        "settlement_obligations",
        sa.Column("obligation_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("origin_key", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("leg_no", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("redeemer", sa.String(), nullable=False),
        sa.Column("payer", sa.String(), nullable=False),
        sa.Column("payee", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("accrued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("face_fen", sa.BigInteger(), nullable=True),
        sa.Column("offer_id", sa.String(), nullable=True),
        sa.Column("agreement_id", sa.String(), nullable=True),
        sa.Column("agreement_version", sa.Integer(), nullable=True),
        sa.Column("usage_month", sa.String(), nullable=True),
        sa.Column("corrects_id", sa.String(), nullable=True),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("business_date", sa.Date(), nullable=True),
        sa.Column("window_id", sa.String(), nullable=True),
        sa.Column("settlement_id", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(settlement_id IS NOT NULL) = (state IN ('IN_SETTLEMENT', 'SETTLED'))",
            name=op.f("ck_settlement_obligations_settlement"),
        ),
        sa.CheckConstraint(
            "(state = 'ACCRUED') = (window_id IS NULL)",
            name=op.f("ck_settlement_obligations_window"),
        ),
        sa.CheckConstraint(
            "state IN ('ACCRUED', 'IN_WINDOW', 'IN_SETTLEMENT', 'SETTLED')",
            name=op.f("ck_settlement_obligations_state"),
        ),
        sa.CheckConstraint(
            "type <> 'REVERSAL' OR corrects_id IS NOT NULL",
            name=op.f("ck_settlement_obligations_corrects"),
        ),
        sa.CheckConstraint(
            "(window_id IS NULL) = (business_date IS NULL)",
            name=op.f("ck_settlement_obligations_business_date"),
        ),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_settlement_obligations_amount")),
        sa.CheckConstraint("payer <> payee", name=op.f("ck_settlement_obligations_parties")),
        sa.ForeignKeyConstraint(
            ["corrects_id"],
            ["settlement_obligations.obligation_id"],
            name=op.f("fk_settlement_obligations_corrects_id"),
        ),
        sa.PrimaryKeyConstraint("obligation_id", name=op.f("pk_settlement_obligations")),
        sa.UniqueConstraint("origin_key", name=op.f("uq_settlement_obligations_origin_key")),
    )
    op.create_index(
        op.f("ix_settlement_obligations_business_date"),
        "settlement_obligations",
        ["business_date"],
        unique=False,
    )
    op.create_index(
        op.f("ix_settlement_obligations_cause_id"),
        "settlement_obligations",
        ["cause_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_settlement_obligations_settlement_id"),
        "settlement_obligations",
        ["settlement_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_settlement_obligations_window_id"),
        "settlement_obligations",
        ["window_id"],
        unique=False,
    )
    op.create_table(
        "settlement_reservations",
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("leg_no", sa.Integer(), nullable=False),
        sa.Column("agreement_id", sa.String(), nullable=False),
        sa.Column("agreement_version", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("redeemer", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=True),
        sa.Column("face_fen", sa.BigInteger(), nullable=False),
        sa.Column("settlement_fen", sa.BigInteger(), nullable=False),
        sa.Column("fee_fen", sa.BigInteger(), nullable=False),
        sa.Column("usage_month", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reserved_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('RESERVED', 'POSTED', 'RELEASED')",
            name=op.f("ck_settlement_reservations_state"),
        ),
        sa.PrimaryKeyConstraint(
            "cause_id", "epoch", "leg_no", name=op.f("pk_settlement_reservations")
        ),
    )
    op.create_table(
        "settlement_settlements",
        sa.Column("settlement_id", sa.String(), nullable=False),
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("net_hash", sa.String(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bank_csv", sa.Text(), nullable=True),
        sa.Column("bank_csv_sha256", sa.String(), nullable=True),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> proposed_by",
            name=op.f("ck_settlement_settlements_four_eyes"),
        ),
        sa.PrimaryKeyConstraint("settlement_id", name=op.f("pk_settlement_settlements")),
    )
    op.create_index(
        op.f("ix_settlement_settlements_window_id"),
        "settlement_settlements",
        ["window_id"],
        unique=False,
    )
    op.create_table(
        "settlement_windows",
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("open_slot", sa.Integer(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cuts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("net_hash", sa.String(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=True),
        sa.Column("sum_fen", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'OPEN') = (open_slot IS NOT NULL)",
            name=op.f("ck_settlement_windows_open_slot"),
        ),
        sa.PrimaryKeyConstraint("window_id", name=op.f("pk_settlement_windows")),
        sa.UniqueConstraint("open_slot", name=op.f("uq_settlement_windows_open_slot")),
    )
    op.create_table(
        "cancel_quotes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("refundable", sa.Boolean(), nullable=False),
        sa.Column("fee_fen", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_cancel_quotes_redemption_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cancel_quotes")),
    )
    op.create_index(
        op.f("ix_cancel_quotes_redemption_id"), "cancel_quotes", ["redemption_id"], unique=False
    )
    op.create_table(
        "catalog_tokens",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["offer_id"], ["catalog_offers.offer_id"], name=op.f("fk_catalog_tokens_offer_id")
        ),
        sa.PrimaryKeyConstraint("token", "offer_id", name=op.f("pk_catalog_tokens")),
    )
    op.create_index("ix_catalog_tokens_offer_id", "catalog_tokens", ["offer_id"], unique=False)
    op.create_table(
        "ledger_lines",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("book", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_ledger_lines_amount")),
        sa.ForeignKeyConstraint(
            ["journal_id"], ["ledger_journals.journal_id"], name=op.f("fk_ledger_lines_journal_id")
        ),
        sa.PrimaryKeyConstraint("journal_id", "line_no", name=op.f("pk_ledger_lines")),
        info={"append_only": True},
    )
    op.create_index("ix_ledger_lines_account", "ledger_lines", ["book", "account"], unique=False)
    op.create_table(
        "ledger_seals",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("journal_id", sa.String(), nullable=True),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("seal", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["journal_id"], ["ledger_journals.journal_id"], name=op.f("fk_ledger_seals_journal_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ledger_seals")),
        sa.UniqueConstraint("journal_id", name=op.f("uq_ledger_seals_journal_id")),
        info={"append_only": True},
    )
    op.create_table(
        "member_consents",
        sa.Column("consent_id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("redeemer", sa.String(), nullable=True),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(purpose = 'partner_pair') = (issuer IS NOT NULL AND redeemer IS NOT NULL)",
            name=op.f("ck_member_consents_pair"),
        ),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.member_id"], name=op.f("fk_member_consents_member_id")
        ),
        sa.PrimaryKeyConstraint("consent_id", name=op.f("pk_member_consents")),
    )
    op.create_index(
        "ix_member_consents_member", "member_consents", ["member_id", "purpose"], unique=False
    )
    op.create_table(
        "member_registrations",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("partner_member_ref", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.member_id"], name=op.f("fk_member_registrations_member_id")
        ),
        sa.PrimaryKeyConstraint("merchant_id", "member_id", name=op.f("pk_member_registrations")),
        sa.UniqueConstraint(
            "merchant_id",
            "partner_member_ref",
            name=op.f("uq_member_registrations_merchant_id_partner_member_ref"),
        ),
    )
    op.create_index(
        "ix_member_registrations_member", "member_registrations", ["member_id"], unique=False
    )
    op.create_table(
        "merchant_onboarding_codes",
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
            name=op.f("fk_merchant_onboarding_codes_merchant_id"),
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_merchant_onboarding_codes")),
    )
    op.create_table(
        "oauth_client_keys",
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("jwk", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.client_id"], name=op.f("fk_oauth_client_keys_client_id")
        ),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_oauth_client_keys")),
    )
    op.create_index(
        op.f("ix_oauth_client_keys_client_id"), "oauth_client_keys", ["client_id"], unique=False
    )
    op.create_table(
        "oauth_client_secrets",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["oauth_clients.client_id"],
            name=op.f("fk_oauth_client_secrets_client_id"),
        ),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_oauth_client_secrets")),
    )
    op.create_index(
        op.f("ix_oauth_client_secrets_client_id"),
        "oauth_client_secrets",
        ["client_id"],
        unique=False,
    )
    op.create_table(
        "oauth_grants",
        sa.Column("grant_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.client_id"], name=op.f("fk_oauth_grants_client_id")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["oauth_users.user_id"], name=op.f("fk_oauth_grants_user_id")
        ),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_oauth_grants")),
    )
    op.create_index(op.f("ix_oauth_grants_user_id"), "oauth_grants", ["user_id"], unique=False)
    op.create_table(
        "oauth_logins",
        sa.Column("login_id", sa.String(), nullable=False),
        sa.Column("browser_hash", sa.String(), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column(
            "parameters", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["oauth_users.user_id"], name=op.f("fk_oauth_logins_user_id")
        ),
        sa.PrimaryKeyConstraint("login_id", name=op.f("pk_oauth_logins")),
    )
    op.create_table(
        "partner_calls",
        sa.Column("op_key", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_partner_calls_redemption_id")
        ),
        sa.PrimaryKeyConstraint("op_key", "verb", "attempt", name=op.f("pk_partner_calls")),
    )
    op.create_index(
        op.f("ix_partner_calls_redemption_id"), "partner_calls", ["redemption_id"], unique=False
    )
    op.create_table(
        "partner_facts",
        sa.Column("op_key", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("booking_ref", sa.String(), nullable=True),
        sa.Column("body", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_partner_facts_redemption_id")
        ),
        sa.PrimaryKeyConstraint("op_key", "version", "outcome", name=op.f("pk_partner_facts")),
    )
    op.create_index(
        op.f("ix_partner_facts_redemption_id"), "partner_facts", ["redemption_id"], unique=False
    )
    op.create_table(
        "points_earnings",
        sa.Column("earning_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("member_id", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("returned_points", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cash_fen", sa.BigInteger(), nullable=True),
        sa.Column("returned_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rate_num", sa.BigInteger(), nullable=False),
        sa.Column("rate_den", sa.BigInteger(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("basis", sa.String(), nullable=False),
        sa.Column(
            "terms", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("earned_on", sa.Date(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mature_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("lot_id", sa.String(), nullable=True),
        sa.Column("returns", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "state IN ('PENDING', 'MATURED', 'RETURNED')", name=op.f("ck_points_earnings_state")
        ),
        sa.CheckConstraint(
            "0 <= returned_fen AND returned_fen <= cash_fen", name=op.f("ck_points_earnings_cash")
        ),
        sa.CheckConstraint(
            "0 <= returned_points AND returned_points <= points",
            name=op.f("ck_points_earnings_points"),
        ),
        sa.ForeignKeyConstraint(
            ["lot_id"], ["points_lots.lot_id"], name=op.f("fk_points_earnings_lot_id")
        ),
        sa.PrimaryKeyConstraint("earning_id", name=op.f("pk_points_earnings")),
        sa.UniqueConstraint("issuer", "ref", name=op.f("uq_points_earnings_issuer_ref")),
    )
    op.create_index(
        "ix_points_earnings_due", "points_earnings", ["state", "mature_at"], unique=False
    )
    op.create_index(
        "ix_points_earnings_member", "points_earnings", ["member_id", "state"], unique=False
    )
    op.create_table(
        "points_lot_movements",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column("lot_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("held_delta", sa.BigInteger(), nullable=False),
        sa.Column("remaining_delta", sa.BigInteger(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("hold_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "held_delta <> 0 OR remaining_delta <> 0", name=op.f("ck_points_lot_movements_delta")
        ),
        sa.ForeignKeyConstraint(
            ["hold_id"], ["points_holds.hold_id"], name=op.f("fk_points_lot_movements_hold_id")
        ),
        sa.ForeignKeyConstraint(
            ["journal_id"],
            ["ledger_journals.journal_id"],
            name=op.f("fk_points_lot_movements_journal_id"),
        ),
        sa.ForeignKeyConstraint(
            ["lot_id"], ["points_lots.lot_id"], name=op.f("fk_points_lot_movements_lot_id")
        ),
        sa.PrimaryKeyConstraint("journal_id", "lot_id", name=op.f("pk_points_lot_movements")),
        info={"append_only": True},
    )
    op.create_index(
        op.f("ix_points_lot_movements_cause_id"), "points_lot_movements", ["cause_id"], unique=False
    )
    op.create_index(
        op.f("ix_points_lot_movements_hold_id"), "points_lot_movements", ["hold_id"], unique=False
    )
    op.create_index("ix_points_lot_movements_lot", "points_lot_movements", ["lot_id"], unique=False)
    op.create_table(
        "points_policies",
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("unit_zh", sa.String(), nullable=False),
        sa.Column("rate_num", sa.BigInteger(), nullable=False),
        sa.Column("rate_den", sa.BigInteger(), nullable=False),
        sa.Column("months", sa.Integer(), nullable=True),
        sa.Column("earn", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column(
            "disclosure", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("compensation_bps", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("months > 0", name=op.f("ck_points_policies_months")),
        sa.CheckConstraint("rate_num > 0 AND rate_den > 0", name=op.f("ck_points_policies_rate")),
        sa.ForeignKeyConstraint(
            ["programme_id"],
            ["points_programmes.programme_id"],
            name=op.f("fk_points_policies_programme_id"),
        ),
        sa.PrimaryKeyConstraint("programme_id", "version", name=op.f("pk_points_policies")),
    )
    op.create_table(
        "promotion_usage",
        sa.Column("promotion_id", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("used_fen", sa.BigInteger(), nullable=False),
        sa.Column("cap_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("used_fen <= cap_fen", name=op.f("ck_promotion_usage_cap")),
        sa.CheckConstraint("used_fen >= 0", name=op.f("ck_promotion_usage_used")),
        sa.ForeignKeyConstraint(
            ["promotion_id"],
            ["promotions.promotion_id"],
            name=op.f("fk_promotion_usage_promotion_id"),
        ),
        sa.PrimaryKeyConstraint("promotion_id", "period", name=op.f("pk_promotion_usage")),
    )
    op.create_table(
        "reconciliation_breaks",
        sa.Column("break_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("merchant", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=True),
        sa.Column(
            "ours_ids", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "theirs_ids", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("ours_fen", sa.BigInteger(), nullable=False),
        sa.Column("theirs_fen", sa.BigInteger(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.String(), nullable=True),
        sa.Column("hypothesis_zh", sa.String(), nullable=False),
        sa.Column("hypothesis_en", sa.String(), nullable=False),
        sa.Column(
            "flows", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reconciliation_runs.run_id"], name=op.f("fk_reconciliation_breaks_run_id")
        ),
        sa.PrimaryKeyConstraint("break_id", name=op.f("pk_reconciliation_breaks")),
    )
    op.create_index(
        op.f("ix_reconciliation_breaks_key"), "reconciliation_breaks", ["key"], unique=False
    )
    op.create_index(
        op.f("ix_reconciliation_breaks_run_id"), "reconciliation_breaks", ["run_id"], unique=False
    )
    op.create_table(
        "reconciliation_rows",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("row_id", sa.String(), nullable=False),
        sa.Column("merchant", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=True),
        sa.Column("partner_ref", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=True),
        sa.Column(
            "rating", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("match_no", sa.Integer(), nullable=True),
        sa.Column("made_by", sa.String(), nullable=True),
        sa.Column("break_id", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(status = 'BREAK') = (break_id IS NOT NULL)",
            name=op.f("ck_reconciliation_rows_broken"),
        ),
        sa.CheckConstraint(
            "(status = 'MATCHED') = (match_no IS NOT NULL)",
            name=op.f("ck_reconciliation_rows_matched"),
        ),
        sa.CheckConstraint(
            "status IN ('STAGED', 'MATCHED', 'BREAK', 'EXPECTED')",
            name=op.f("ck_reconciliation_rows_status"),
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reconciliation_runs.run_id"], name=op.f("fk_reconciliation_rows_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "side", "row_id", name=op.f("pk_reconciliation_rows")),
    )
    op.create_index(
        op.f("ix_reconciliation_rows_break_id"), "reconciliation_rows", ["break_id"], unique=False
    )
    op.create_index(
        op.f("ix_reconciliation_rows_ref"), "reconciliation_rows", ["ref"], unique=False
    )
    op.create_table(
        "reconciliation_statements",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("merchant", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "exceptions", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["reconciliation_runs.run_id"],
            name=op.f("fk_reconciliation_statements_run_id"),
        ),
        sa.PrimaryKeyConstraint("run_id", "merchant", name=op.f("pk_reconciliation_statements")),
    )
    op.create_table(
        "redemption_legs",
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("leg_no", sa.Integer(), nullable=False),
        sa.Column("programme_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("face_fen", sa.BigInteger(), nullable=False),
        sa.Column("rate_num", sa.BigInteger(), nullable=False),
        sa.Column("rate_den", sa.BigInteger(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("agreement_id", sa.String(), nullable=True),
        sa.Column("settlement_fen", sa.BigInteger(), nullable=False),
        sa.Column("fee_fen", sa.BigInteger(), nullable=False),
        sa.Column("returned_points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "own = (agreement_id IS NULL)", name=op.f("ck_redemption_legs_agreement")
        ),
        sa.CheckConstraint("points > 0 AND face_fen >= 0", name=op.f("ck_redemption_legs_amounts")),
        sa.CheckConstraint(
            "returned_points >= 0 AND returned_points <= points",
            name=op.f("ck_redemption_legs_returned"),
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_redemption_legs_redemption_id")
        ),
        sa.PrimaryKeyConstraint("redemption_id", "leg_no", name=op.f("pk_redemption_legs")),
    )
    op.create_table(
        "saga_findings",
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_saga_findings_redemption_id")
        ),
        sa.PrimaryKeyConstraint("redemption_id", "code", name=op.f("pk_saga_findings")),
    )
    op.create_table(
        "settlement_legs",
        sa.Column("leg_id", sa.String(), nullable=False),
        sa.Column("settlement_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("end_to_end_id", sa.String(length=35), nullable=False),
        sa.Column("payer", sa.String(), nullable=False),
        sa.Column("payee", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_settlement_legs_amount")),
        sa.CheckConstraint("payer <> payee", name=op.f("ck_settlement_legs_parties")),
        sa.ForeignKeyConstraint(
            ["settlement_id"],
            ["settlement_settlements.settlement_id"],
            name=op.f("fk_settlement_legs_settlement_id"),
        ),
        sa.PrimaryKeyConstraint("leg_id", name=op.f("pk_settlement_legs")),
        sa.UniqueConstraint("end_to_end_id", name=op.f("uq_settlement_legs_end_to_end_id")),
        sa.UniqueConstraint(
            "settlement_id", "seq", name=op.f("uq_settlement_legs_settlement_id_seq")
        ),
    )
    op.create_table(
        "vouchers",
        sa.Column("voucher_id", sa.String(), nullable=False),
        sa.Column("redemption_id", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column(
            "artefacts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("last_on", sa.Date(), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('ISSUED', 'USED', 'VOID')", name=op.f("ck_vouchers_state")),
        sa.ForeignKeyConstraint(
            ["redemption_id"], ["redemptions.id"], name=op.f("fk_vouchers_redemption_id")
        ),
        sa.PrimaryKeyConstraint("voucher_id", name=op.f("pk_vouchers")),
        sa.UniqueConstraint("merchant_id", "code", name=op.f("uq_vouchers_merchant_id_code")),
        sa.UniqueConstraint("redemption_id", name=op.f("uq_vouchers_redemption_id")),
    )
    op.create_table(
        "oauth_codes",
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("grant_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("redirect_uri", sa.String(), nullable=False),
        sa.Column("code_challenge", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["oauth_grants.grant_id"], name=op.f("fk_oauth_codes_grant_id")
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_oauth_codes")),
    )
    op.create_table(
        "oauth_refresh_tokens",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("grant_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["oauth_grants.grant_id"], name=op.f("fk_oauth_refresh_tokens_grant_id")
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_oauth_refresh_tokens")),
    )
    op.create_index(
        op.f("ix_oauth_refresh_tokens_grant_id"), "oauth_refresh_tokens", ["grant_id"], unique=False
    )
    op.create_table(
        "reconciliation_resolutions",
        sa.Column("resolution_id", sa.String(), nullable=False),
        sa.Column("break_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column(
            "flows", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("journal_id", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(state = 'APPROVED') = (approved_by IS NOT NULL)",
            name=op.f("ck_reconciliation_resolutions_approved"),
        ),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> proposed_by",
            name=op.f("ck_reconciliation_resolutions_four_eyes"),
        ),
        sa.ForeignKeyConstraint(
            ["break_id"],
            ["reconciliation_breaks.break_id"],
            name=op.f("fk_reconciliation_resolutions_break_id"),
        ),
        sa.PrimaryKeyConstraint("resolution_id", name=op.f("pk_reconciliation_resolutions")),
    )
    op.create_table(
        "settlement_leg_parties",
        sa.Column("leg_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("receipt_ref", sa.String(), nullable=True),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ack_client_id", sa.String(), nullable=True),
        sa.Column("ack_signature", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('DEBTOR', 'CREDITOR')", name=op.f("ck_settlement_leg_parties_role")
        ),
        sa.ForeignKeyConstraint(
            ["leg_id"], ["settlement_legs.leg_id"], name=op.f("fk_settlement_leg_parties_leg_id")
        ),
        sa.PrimaryKeyConstraint("leg_id", "role", name=op.f("pk_settlement_leg_parties")),
    )
    op.create_index(
        op.f("ix_settlement_leg_parties_merchant_id"),
        "settlement_leg_parties",
        ["merchant_id"],
        unique=False,
    )
    for table in APPEND_ONLY:
        for statement in forbid_changes(table, op.get_bind().dialect.name):
            op.execute(statement)
