-- Questions to a dataset of labels, in SQL. DuckDB reads it from disk or from a store:
--
--   mnv1 classify ~/Pictures --with-meta -o labels/
--   duckdb < dataset.sql
--
-- s3://bucket/labels/*.parquet works in place of labels/*.parquet.

-- Photos per label.
select label, count(*) as photos
from 'labels/*.parquet'
where rank = 1
group by label
order by photos desc, label
limit 10;

-- The most probable labels.
select path, label, round(probability, 3) as probability
from 'labels/*.parquet'
where rank = 1
order by probability desc, path
limit 10;

-- What could not be used, and why.
select path, error
from 'labels/*.parquet'
where error <> ''
order by path;
