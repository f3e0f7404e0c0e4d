"""Campaigns: calendars, better prices, open days, multipliers, compensation and matches."""
