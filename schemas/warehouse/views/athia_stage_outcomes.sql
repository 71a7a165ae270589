-- One row per attempt of a payment, in the order in which they were made. Of an attempt with two results the first one counts.
WITH results AS (
  SELECT f.*
  FROM ATHIA_FEEDBACK f
  QUALIFY ROW_NUMBER() OVER (PARTITION BY f.payment_id, f.attempt_id ORDER BY f.outcome_at, f.topic, f.partition, f.offset) = 1
),
staged AS (
  SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.payment_id ORDER BY r.attempted_at, r.outcome_at, r.attempt_id) AS stage
  FROM results r
)
SELECT
  s.payment_id,
  s.stage,
  s.attempt_id,
  s.decision_id,
  s.rank_taken,
  s.psp_id,
  LAG(s.psp_id) OVER (PARTITION BY s.payment_id ORDER BY s.stage) AS previous_psp_id,
  LAG(s.error_code) OVER (PARTITION BY s.payment_id ORDER BY s.stage) AS previous_error_code,
  LAG(s.error_category) OVER (PARTITION BY s.payment_id ORDER BY s.stage) AS previous_error_category,
  LAG(s.hard_soft) OVER (PARTITION BY s.payment_id ORDER BY s.stage) AS previous_hard_soft,
  s.approved,
  s.status,
  s.error_code,
  s.error_category,
  s.hard_soft,
  s.timed_out,
  s.amount_minor,
  s.currency,
  s.fee_minor,
  s.latency_ms,
  s.attempted_at,
  s.outcome_at,
  DATEDIFF('millisecond', MIN(s.attempted_at) OVER (PARTITION BY s.payment_id), s.attempted_at) AS since_first_ms,
  DATEDIFF('millisecond', LAG(s.attempted_at) OVER (PARTITION BY s.payment_id ORDER BY s.stage), s.attempted_at) AS since_previous_ms
FROM staged s
