"""Serving: the REST endpoint and the Spark function against `score` on the same rows.

    python -m benchmarks.serving --model models:/purchase-predictor-KR@champion --data DIR

The first impressions of a data folder are scored by the command and, one row a list
(`purchase_predictor.scoring_rows`), by `mlflow models serve` over HTTP and by
`mlflow.pyfunc.spark_udf` (where pyspark and Java are), both with the registered model. Exit code 1
where a probability differs by more than a millionth.
"""

import argparse
import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from benchmarks.robustness import small
from features.schema import Tables, load_tables
from purchase_predictor import score
from purchase_predictor.scoring_rows import columns, example_rows

TOLERANCE = 1e-6
SECONDS_TO_START = 900
EVERYTHING = 1_000_000
"""Lists, and rows of a history, in an example that leaves nothing out."""

Row = dict[str, Any]
Answers = list[list[float]]


def by_command(
    options: argparse.Namespace, data: Path, tables: Tables, rows: list[Row]
) -> Answers:
    """What `score` says of the candidates of each row."""
    output = data.parent / "scores" / "scores.parquet"
    line = ["--model", options.model, "--input", str(data), "--output", str(output), "--quiet"]
    if score.main([*line, "--system", options.system]):
        raise RuntimeError("scoring failed")
    shown = tables.impressions.sort("timestamp", maintain_order=True).join(
        pl.read_parquet(output), on="impression_id", how="left", maintain_order="left"
    )
    name = pl.coalesce("list_id", pl.format("{} {}", "session_id", "timestamp"))
    lists = shown.group_by(name.alias("list"), maintain_order=True).agg(
        pl.col("session_id", "timestamp").first(), "product_id", "probability"
    )
    found = {
        (session, timestamp, tuple(products)): probabilities
        for session, timestamp, products, probabilities in lists.select(
            "session_id", pl.col("timestamp").dt.timestamp("us"), "product_id", "probability"
        ).iter_rows()
    }
    moments = pl.Series([row["timestamp"] for row in rows]).str.to_datetime(time_zone="UTC")
    return [
        found[row["session_id"], moment, tuple(c.get("product_id") for c in row["candidates"])]
        for row, moment in zip(rows, moments.dt.timestamp("us"), strict=True)
    ]


@contextlib.contextmanager
def served(model: str) -> Iterator[str]:
    """Address of a server of the model, which ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = ["models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1"]
    line = [sys.executable, "-m", "mlflow", *line, "-p", str(port)]
    # MLflow looks for uvicorn beside the interpreter only where the environment is activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(line, env={**os.environ, "PATH": path})
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()  # noqa: S310
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise RuntimeError("the server did not start")
        yield address
    finally:
        process.terminate()
        process.wait()


def by_rest(address: str, rows: list[Row], system: str) -> Answers:
    """What the endpoint says, one request for each row."""
    answers = []
    for row in rows:
        body = json.dumps({"dataframe_records": [row], "params": {"system": system}}).encode()
        request = urllib.request.Request(  # noqa: S310
            f"{address}/invocations", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:  # noqa: S310
                answers.append(json.load(reply)["predictions"][0]["probabilities"])
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error
    return answers


def by_spark(
    model: str, rows: list[Row], kinds: dict[str, Any], place: Path, system: str
) -> Answers:
    """What the Spark function says."""
    import mlflow
    from pyspark.sql import SparkSession

    file = place / "lists.parquet"
    schema = columns(kinds)
    pl.DataFrame(rows, schema=schema).with_row_index("list").write_parquet(file)
    os.environ["PYSPARK_PYTHON"] = sys.executable  # of the executors, which are on this machine
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    try:
        predict = mlflow.pyfunc.spark_udf(
            spark,
            model,
            result_type="probabilities array<double>, flags array<string>",
            env_manager="local",
            params={"system": system},
        )
        lists = spark.read.parquet(str(file)).repartition(2)
        answered = lists.select("list", predict(*schema).alias("answer")).collect()
    finally:
        spark.stop()
    by_list = {answer["list"]: list(answer["answer"]["probabilities"]) for answer in answered}
    return [by_list[number] for number in range(len(rows))]


def furthest(found: Answers, expected: Answers) -> float:
    """Largest difference of two probabilities; infinite where one is missing."""
    pairs = [
        pair
        for mine, theirs in zip(found, expected, strict=True)
        for pair in zip(mine, theirs, strict=True)
    ]
    return max(math.inf if a is None or b is None else abs(a - b) for a, b in pairs)


def main() -> int:
    """Score thrice and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="models:/NAME@ALIAS")
    parser.add_argument("--data", type=Path, required=True, help="data folder of Parquet files")
    parser.add_argument("--rows", type=int, default=60, help="impressions")
    parser.add_argument("--system", default="fusion")
    parser.add_argument("--ways", nargs="+", default=["rest", "spark"], choices=["rest", "spark"])
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        data = small(options.data, place, options.rows)
        tables = load_tables(data, require_labels=False)
        rows = example_rows(tables, n_lists=EVERYTHING, max_before=EVERYTHING)
        expected = by_command(options, data, tables, rows)
        n = sum(len(probabilities) for probabilities in expected)
        print(f"score: {n} impressions in {len(rows)} lists", flush=True)
        worst = 0.0
        for way in options.ways:
            began = time.perf_counter()
            if way == "rest":
                with served(options.model) as address:
                    ready = time.perf_counter()
                    found = by_rest(address, rows, options.system)
                told = f"{1000 * (time.perf_counter() - ready) / len(rows):.0f} ms a request"
            else:
                kinds = dict(tables.context)
                found = by_spark(options.model, rows, kinds, place, options.system)
                told = f"{time.perf_counter() - began:.0f} s with the start of Spark"
            difference = furthest(found, expected)
            worst = max(worst, difference)
            print(f"{way}: largest difference {difference:.1e}, {told}", flush=True)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
