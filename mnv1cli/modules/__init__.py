"""Modules: located, fetched, built, cached, inspected and audited."""
