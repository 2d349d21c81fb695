"""Tests that break a promise on purpose: docs/reliability.md has them as a table."""
