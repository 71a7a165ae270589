-- Approval by stage, PSP, the PSP before, and the category of the code that one gave (null: none).
SELECT
  s.stage,
  s.psp_id,
  s.previous_psp_id,
  s.previous_error_category,
  COUNT(*) AS attempts,
  CAST(SUM(CASE WHEN s.approved THEN 1 ELSE 0 END) AS BIGINT) AS approvals,
  AVG(CASE WHEN s.approved THEN 1.0 ELSE 0.0 END) AS approval_rate,
  CAST(SUM(CASE WHEN s.status = 'TIMEOUT' THEN 1 ELSE 0 END) AS BIGINT) AS timeouts,
  AVG(s.since_previous_ms) AS since_previous_ms_mean,
  AVG(s.latency_ms) AS latency_ms_mean
FROM ATHIA_STAGE_OUTCOMES s
GROUP BY s.stage, s.psp_id, s.previous_psp_id, s.previous_error_category
