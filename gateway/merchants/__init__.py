"""The legal entities of the coalition: issuers, redeemers, the operator, charities."""
