"""What types and root fields are that have no docstring of their own. Data, no I/O.

A type's or a resolver's docstring is its description; here is what has none. Inputs, payloads and
connections that only carry what their names say are described by `described.text_of_type`.
"""

from collections.abc import Mapping

TYPES: Mapping[str, str] = {
    "BreaksFilter": "Which breaks are wanted; all given conditions hold.",
    "ConformanceCheck": "One check of the partner contract and how it ended.",
    "GuaranteeInput": "What the merchant promises to who buys with points.",
    "Licence": "A licence of the operator, with the days on which it is valid.",
    "MerchantFilter": "Which merchants are wanted; all given conditions hold.",
    "PageInfo": "Where a page ends.",
    "PartnersFilter": "Which merchants are wanted; all given conditions hold.",
    "RateInput": "An exact ratio num/den, such as fen per point.",
    "RedemptionsFilter": "Which redemptions are wanted.",
    "RunsFilter": "Which reconciliation runs are wanted.",
    "SagasFilter": "Which redemptions are wanted; all given conditions hold.",
    "SettlementAccountInput": "The bank account a merchant is paid to.",
    "SettlementLegsFilter": "Which payments are wanted; all given conditions hold.",
    "Query": "What can be asked. Every field says which scope and role it needs.",
    "Boolean": "True or false.",
    "String": "A text in Unicode.",
    "Int": "A signed 32-bit integer.",
    "ID": "An opaque id.",
}

ROOTS: Mapping[str, str] = {
    "Query.coalition": "The coalition and who runs it.",
    "Query.merchants": "The coalition's merchants, by id.",
    "Query.merchant": "One merchant; null if there is none.",
    "Query.programmes": "Every points programme, each with its issuer and declared value.",
    "Query.offer": "One offer; null if there is none.",
    "Query.me": "The member who asks, with wallets and consents.",
    "Query.quote": "A quote of the member, also when it has expired; null if there is none.",
    "Query.redemption": "A redemption that the member may see; null if there is none.",
    "Query.donation": "A donation of the member; null if there is none.",
    "Query.settlementWindows": "Clearing windows, with positions and payments.",
    "Query.settlement": "One settlement; null if there is none.",
    "Query.reconciliationRuns": "Reconciliation runs, of one day or of all.",
    "Query.reconciliationRun": "One reconciliation run; null if there is none.",
    "Query.breaks": "Differences between our books and partners' statements.",
    "Query.partners": "Merchants as the operator sees them, by id.",
    "Query.budgets": "An issuer's marketing budgets, year by year.",
}
