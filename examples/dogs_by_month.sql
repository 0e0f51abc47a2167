-- Photos with a dog per month:
--
--   mnv1 classify ~/Pictures --with-meta -o labels.parquet
--   duckdb < dogs_by_month.sql
--
-- Classes 152 to 269 are the breeds of dogs.
select strftime(exif_datetime, '%Y-%m') as month, count(distinct path) as photos
from 'labels.parquet'
where class_id between 152 and 269 and probability > 0.2
group by month
order by month;
