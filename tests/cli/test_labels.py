"""`mnv1 labels`."""

from __future__ import annotations

import json

from tests.support.shell import mnv1, rows


def test_labels_are_found_by_word_and_number() -> None:
    assert [row["class_id"] for row in rows(mnv1("labels", "tabby").stdout)] == ["282"]
    assert rows(mnv1("labels", "282").stdout)[0]["label"] == "tabby"
    assert len(rows(mnv1("labels").stdout)) == 1001
    entries = [
        json.loads(line) for line in mnv1("labels", "crane", "-f", "jsonl").stdout.splitlines()
    ]
    assert len([entry for entry in entries if entry["label"] == "crane"]) == 2
    assert "tabby cat" in mnv1("labels", "tabby", "-f", "table").stdout
    nothing = mnv1("labels", "no such thing")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
