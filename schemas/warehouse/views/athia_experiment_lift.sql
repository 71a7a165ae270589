-- Approved payments per experiment, variant and day (of the first decision, UTC), beside the variant named `control` on the same day. z is the difference
-- over its standard error; null without control, or where nothing varies.
WITH assigned AS (
  SELECT d.experiment_id, d.experiment_variant, d.experiment_shadow, d.payment_id, CAST(d.decided_at AS DATE) AS decided_on
  FROM ATHIA_DECISIONS d
  WHERE d.experiment_id IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY d.experiment_id, d.payment_id ORDER BY d.decided_at, d.decision_id) = 1
),
counted AS (
  SELECT
    a.experiment_id, a.experiment_variant, a.experiment_shadow, a.decided_on,
    COUNT(*) AS payments,
    CAST(SUM(CASE WHEN s.approved THEN 1 ELSE 0 END) AS BIGINT) AS approvals,
    CAST(SUM(s.attempts) AS BIGINT) AS attempts,
    CAST(SUM(s.fees_minor) AS BIGINT) AS fees_minor
  FROM assigned a
  JOIN ATHIA_SESSION_SUMMARY s ON s.payment_id = a.payment_id
  GROUP BY a.experiment_id, a.experiment_variant, a.experiment_shadow, a.decided_on
),
rated AS (
  SELECT c.*, c.approvals * 1.0 / c.payments AS approval_rate FROM counted c
)
SELECT
  r.experiment_id,
  r.experiment_variant,
  r.experiment_shadow,
  r.decided_on,
  r.payments,
  r.approvals,
  r.approval_rate,
  r.attempts,
  r.fees_minor,
  k.payments AS control_payments,
  k.approval_rate AS control_approval_rate,
  r.approval_rate - k.approval_rate AS lift,
  (r.approval_rate - k.approval_rate) / NULLIF(SQRT(
    r.approval_rate * (1 - r.approval_rate) / r.payments + k.approval_rate * (1 - k.approval_rate) / k.payments), 0) AS z
FROM rated r
LEFT JOIN rated k
  ON k.experiment_id = r.experiment_id AND k.decided_on = r.decided_on AND k.experiment_shadow = r.experiment_shadow
  AND k.experiment_variant = 'control' AND r.experiment_variant <> 'control'
