"""What a reader sees: charts, HTML pages and console tables."""
