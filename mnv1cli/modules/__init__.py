"""Modules: found, fetched, built, cached, inspected and audited."""
