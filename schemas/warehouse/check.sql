-- Gaps and doubles of the streamed tables, by topic and partition: @table@ stands for each table in turn. Every row names the offset of the
-- row before it, because offsets of a topic are not dense: transactions and compaction leave holes that are no gaps.
SELECT
  '@table@' AS table_name,
  r.topic,
  r.partition,
  COUNT(*) AS rows_held,
  MIN(r.place) AS first_offset,
  MAX(r.place) AS last_offset,
  CAST(SUM(CASE WHEN r.before = r.place THEN 1 ELSE 0 END) AS BIGINT) AS doubles,
  CAST(SUM(CASE WHEN r.before <> r.place AND COALESCE(r.previous_offset, -1) <> r.before THEN 1 ELSE 0 END) AS BIGINT) AS gaps
FROM (
  SELECT
    t.topic,
    t.partition,
    t.offset AS place,
    t.previous_offset,
    LAG(t.offset) OVER (PARTITION BY t.topic, t.partition ORDER BY t.offset, t.ingested_at) AS before
  FROM @table@ t
) r
GROUP BY r.topic, r.partition
