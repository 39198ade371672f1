"""Draws the README's picture: `python docs/pictures.py runs/demo/metrics.json docs/demo.png`."""

import json
import sys
from pathlib import Path

from purchase_predictor.report import charts, pages

if __name__ == "__main__":
    result = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    pages.write_png(charts.comparison_chart(result), Path(sys.argv[2]))
