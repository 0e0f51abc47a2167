"""One result made of many."""
