"""Count labels, or the lengths of feature vectors, in a dataset with Spark.

    mnv1 classify ~/Pictures -o labels/        (or embed, or logits)
    python dataset_spark.py labels/

needs pyspark. From a store, give the folder as Spark calls it: s3a://bucket/labels/.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession, functions


def main() -> None:
    """Read the dataset and print what is in it."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    spark = SparkSession.builder.appName("labels").getOrCreate()
    rows = spark.read.parquet(sys.argv[1])
    print(rows.schema.simpleString())
    good, bad = rows.where("error = ''"), rows.where("error <> ''")
    if "values" in rows.columns:
        length = functions.sqrt(functions.expr("aggregate(values, 0D, (s, x) -> s + x * x)"))
        summary = good.select(length.alias("length")).agg(
            functions.count("length").alias("images"), functions.round(functions.avg("length"), 3)
        )
    else:
        summary = good.where("rank = 1").groupBy("label").count().orderBy("count", "label")
    for row in summary.collect():
        print(*row, sep=",")
    print(f"{bad.count()} could not be used")
    spark.stop()


if __name__ == "__main__":
    main()
