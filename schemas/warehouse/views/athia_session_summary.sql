-- One row per payment: its path over the PSPs, what came of it, what it cost and how long it took. Fees are those that are known.
SELECT
  s.payment_id,
  @path@ AS path,
  COUNT(*) AS attempts,
  COUNT(s.decision_id) AS attempts_decided,
  COUNT(DISTINCT s.psp_id) AS psps,
  MAX(CASE WHEN s.approved THEN 1 ELSE 0 END) = 1 AS approved,
  MAX(CASE WHEN s.approved THEN s.psp_id END) AS approved_psp_id,
  MAX(CASE WHEN s.stage = 1 AND s.approved THEN 1 ELSE 0 END) = 1 AS approved_at_first,
  CAST(SUM(CASE WHEN s.status = 'TIMEOUT' THEN 1 ELSE 0 END) AS BIGINT) AS timeouts,
  MAX(s.amount_minor) AS amount_minor,
  MAX(s.currency) AS currency,
  CAST(COALESCE(SUM(s.fee_minor), 0) AS BIGINT) AS fees_minor,
  COUNT(s.fee_minor) AS fees_known,
  MIN(s.attempted_at) AS first_attempted_at,
  MAX(s.outcome_at) AS last_outcome_at,
  DATEDIFF('millisecond', MIN(s.attempted_at), MAX(s.outcome_at)) AS elapsed_ms
FROM ATHIA_STAGE_OUTCOMES s
GROUP BY s.payment_id
