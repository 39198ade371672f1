"""Draws the README's pictures.

python docs/pictures.py runs/demo/metrics.json docs/demo.png
python docs/pictures.py runs/shopee/ladder.json docs/matching.png
"""

import json
import sys
from pathlib import Path

from purchase_predictor.report import charts, pages
from purchase_predictor.report.matching import ladder_chart

if __name__ == "__main__":
    source, picture = map(Path, sys.argv[1:3])
    result = json.loads(source.read_text("utf-8"))
    is_ladder = source.name == "ladder.json"
    chart = ladder_chart(result) if is_ladder else charts.comparison_chart(result)
    pages.write_png(chart, picture, scale=1 if is_ladder else 2)
