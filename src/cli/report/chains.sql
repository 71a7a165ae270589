-- Attempts after the first of their payment, counted by what came before them.
SELECT
  s.stage,
  s.previous_psp_id,
  COALESCE(s.previous_error_category, '') AS previous_category,
  COALESCE(s.previous_hard_soft, '') AS previous_hard_soft,
  s.psp_id,
  CASE
    WHEN s.since_previous_ms < 10000 THEN 0
    WHEN s.since_previous_ms < 60000 THEN 1
    WHEN s.since_previous_ms < 600000 THEN 2
    WHEN s.since_previous_ms < 3600000 THEN 3
    WHEN s.since_previous_ms < 86400000 THEN 4
    ELSE 5
  END AS wait,
  COUNT(*) AS attempts,
  COUNT(*) FILTER (WHERE s.approved) AS approvals
FROM ATHIA_STAGE_OUTCOMES s
WHERE s.stage > 1 AND EPOCH_MS(s.attempted_at) >= @from@ AND EPOCH_MS(s.attempted_at) < @to@
GROUP BY ALL
ORDER BY ALL
