-- Where rows of the streamed tables are missing: the row before and the row behind, by topic and partition; none before where the first ones are
-- missing. @table@ stands for each table in turn.
SELECT
  '@table@' AS table_name,
  r.topic,
  r.partition,
  r.before AS after_offset,
  r.place AS before_offset
FROM (
  SELECT
    t.topic,
    t.partition,
    t.offset AS place,
    t.previous_offset,
    LAG(t.offset) OVER (PARTITION BY t.topic, t.partition ORDER BY t.offset, t.ingested_at) AS before
  FROM @table@ t
) r
WHERE r.previous_offset IS NOT NULL AND (r.before IS NULL OR (r.before <> r.place AND r.before < r.previous_offset))
