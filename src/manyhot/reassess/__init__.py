"""Campaigns: propose missing labels, let people confirm them, aggregate their votes into label sets."""
