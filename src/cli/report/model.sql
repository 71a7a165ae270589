-- How sure each model was and what came of it: per version, over the whole time and by day of scoring. Figures of probabilities are over the attempts
-- that followed a decision, for the PSP that took the first of them.
WITH predicted AS (
  SELECT
    p.*,
    STRFTIME(p.scored_at, '%Y-%m-%d') AS scored_on,
    COALESCE(
      p.candidate_probabilities[list_position(p.candidate_psp_ids, p.chosen)],
      p.candidate_raw_probabilities[list_position(p.candidate_psp_ids, p.chosen)]) AS first_probability
  FROM ATHIA_PREDICTIONS p
  WHERE EPOCH_MS(p.scored_at) >= @from@ AND EPOCH_MS(p.scored_at) < @to@
),
scored AS (
  SELECT
    p.model, p.shadow, p.scored_on, p.latency_us, p.first_probability,
    f.psp_id = p.chosen AS took_first,
    CASE WHEN f.approved THEN 1 WHEN NOT f.approved THEN 0 END AS approved,
    COALESCE(
      p.candidate_probabilities[list_position(p.candidate_psp_ids, f.psp_id)],
      p.candidate_raw_probabilities[list_position(p.candidate_psp_ids, f.psp_id)]) AS probability
  FROM predicted p
  LEFT JOIN ATHIA_DECISION_OUTCOMES f ON f.decision_id = p.decision_id
),
sliced AS (
  SELECT 'ALL' AS slice, s.* FROM scored s
  UNION ALL
  SELECT s.scored_on AS slice, s.* FROM scored s
),
ranked AS (
  SELECT
    s.*,
    s.probability IS NOT NULL AND s.approved IS NOT NULL AS counts,
    LEAST(GREATEST(s.probability, 1e-12), 1 - 1e-12) AS clipped,
    RANK() OVER w + (COUNT(*) OVER (w RANGE BETWEEN CURRENT ROW AND CURRENT ROW) - 1) / 2.0 AS place
  FROM sliced s
  WINDOW w AS (
    PARTITION BY s.model, s.shadow, s.slice, s.probability IS NOT NULL AND s.approved IS NOT NULL ORDER BY s.probability)
)
SELECT
  r.model,
  r.shadow,
  r.slice,
  COUNT(*) AS predictions,
  AVG(r.first_probability) AS confidence,
  COUNT(*) FILTER (WHERE r.counts) AS attempts,
  COUNT(*) FILTER (WHERE r.counts AND r.approved = 1) AS approvals,
  AVG(r.probability) FILTER (WHERE r.counts) AS predicted,
  AVG(-(r.approved * LN(r.clipped) + (1 - r.approved) * LN(1 - r.clipped))) FILTER (WHERE r.counts) AS log_loss,
  AVG((r.probability - r.approved) * (r.probability - r.approved)) FILTER (WHERE r.counts) AS brier,
  SUM(r.place) FILTER (WHERE r.counts AND r.approved = 1) AS places,
  COUNT(*) FILTER (WHERE r.took_first) AS first_choices,
  COUNT(*) FILTER (WHERE r.took_first AND r.approved = 1) AS first_choice_approvals,
  QUANTILE_CONT(r.latency_us, 0.5) AS latency_us_p50,
  QUANTILE_CONT(r.latency_us, 0.95) AS latency_us_p95
FROM ranked r
GROUP BY r.model, r.shadow, r.slice
ORDER BY r.slice <> 'ALL', r.slice, predictions DESC, r.model
