-- How good a model's probabilities were, per version, slice and day (of scoring, UTC), for the PSP that took the first attempt. auc is null where
-- all or none were approved; calibration_error is over ten bins of equal width; rank_accuracy is the share approved where the model's first
-- choice was taken.
WITH scored AS (
  SELECT
    p.model,
    p.shadow,
    CAST(p.scored_at AS DATE) AS scored_on,
    f.psp_id,
    f.currency,
    CASE WHEN f.approved THEN 1 ELSE 0 END AS approved,
    CASE WHEN f.psp_id = p.chosen THEN 1 ELSE 0 END AS is_first_choice,
    @taken_probability@ AS probability,
    p.latency_us
  FROM ATHIA_PREDICTIONS p
  JOIN ATHIA_DECISION_OUTCOMES f ON f.decision_id = p.decision_id
),
sliced AS (
  SELECT 'ALL' AS slice, s.* FROM scored s WHERE s.probability IS NOT NULL
  UNION ALL
  SELECT 'PSP:' || s.psp_id AS slice, s.* FROM scored s WHERE s.probability IS NOT NULL
  UNION ALL
  SELECT 'CURRENCY:' || s.currency AS slice, s.* FROM scored s WHERE s.probability IS NOT NULL AND s.currency IS NOT NULL
),
ranked AS (
  SELECT
    s.*,
    RANK() OVER (PARTITION BY s.model, s.shadow, s.slice, s.scored_on ORDER BY s.probability)
      + (COUNT(*) OVER (PARTITION BY s.model, s.shadow, s.slice, s.scored_on, s.probability) - 1) / 2.0 AS place,
    LEAST(GREATEST(s.probability, 1e-12), 1 - 1e-12) AS clipped,
    LEAST(FLOOR(s.probability * 10), 9) AS bin
  FROM sliced s
),
binned AS (
  SELECT
    r.model, r.shadow, r.slice, r.scored_on, r.bin,
    ABS(SUM(r.probability) - SUM(r.approved)) AS off
  FROM ranked r
  GROUP BY r.model, r.shadow, r.slice, r.scored_on, r.bin
),
calibrated AS (
  SELECT b.model, b.shadow, b.slice, b.scored_on, SUM(b.off) AS off
  FROM binned b
  GROUP BY b.model, b.shadow, b.slice, b.scored_on
),
measured AS (
  SELECT
    r.model, r.shadow, r.slice, r.scored_on,
    COUNT(*) AS attempts,
    CAST(SUM(r.approved) AS BIGINT) AS approvals,
    SUM(CASE WHEN r.approved = 1 THEN r.place ELSE 0 END) AS places,
    AVG(-(r.approved * LN(r.clipped) + (1 - r.approved) * LN(1 - r.clipped))) AS log_loss,
    AVG((r.probability - r.approved) * (r.probability - r.approved)) AS brier,
    AVG(r.probability) AS confidence,
    AVG(CASE WHEN r.is_first_choice = 1 THEN r.approved * 1.0 END) AS rank_accuracy,
    AVG(r.is_first_choice * 1.0) AS followed_rate,
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY r.latency_us) AS latency_us_p50,
    PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY r.latency_us) AS latency_us_p95
  FROM ranked r
  GROUP BY r.model, r.shadow, r.slice, r.scored_on
)
SELECT
  m.model,
  m.shadow,
  m.slice,
  m.scored_on,
  m.attempts,
  m.approvals,
  m.approvals * 1.0 / m.attempts AS approval_rate,
  CASE WHEN m.approvals > 0 AND m.approvals < m.attempts
    THEN (m.places - m.approvals * (m.approvals + 1) / 2.0) / (m.approvals * 1.0 * (m.attempts - m.approvals))
  END AS auc,
  m.log_loss,
  m.brier,
  c.off / m.attempts AS calibration_error,
  m.confidence,
  m.rank_accuracy,
  m.followed_rate,
  m.latency_us_p50,
  m.latency_us_p95
FROM measured m
JOIN calibrated c ON c.model = m.model AND c.shadow = m.shadow AND c.slice = m.slice AND c.scored_on = m.scored_on
