"""bench/data.py runs, and says what it should."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "bench" / "data.py"


def test_it_measures_made_up_texts():
    words = [sys.executable, str(SCRIPT), "--documents", "200", "--workers", "1", "--context", "64", "--sequences", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    for what in ("tokenizing", "opening", "verifying", "stream: 100 batches", "masked: 100 batches", "whole: 100"):
        assert re.search(rf"^{what}.* s, ", done.stdout, re.MULTILINE), what
    assert "200 documents" in done.stdout
    assert re.search(r"cut by windows \d+\.\d%, cut when packed whole \d+\.\d%", done.stdout)
