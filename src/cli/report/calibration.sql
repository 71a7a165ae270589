-- Probabilities beside what came of them, in ten bins of equal width: per version, for the PSP that took the first attempt of a decision.
WITH scored AS (
  SELECT
    p.model, p.shadow,
    CASE WHEN f.approved THEN 1 ELSE 0 END AS approved,
    COALESCE(
      p.candidate_probabilities[list_position(p.candidate_psp_ids, f.psp_id)],
      p.candidate_raw_probabilities[list_position(p.candidate_psp_ids, f.psp_id)]) AS probability
  FROM ATHIA_PREDICTIONS p
  JOIN ATHIA_DECISION_OUTCOMES f ON f.decision_id = p.decision_id
  WHERE EPOCH_MS(p.scored_at) >= @from@ AND EPOCH_MS(p.scored_at) < @to@
)
SELECT
  s.model,
  s.shadow,
  CAST(LEAST(FLOOR(s.probability * 10), 9) AS INTEGER) AS bin,
  COUNT(*) AS attempts,
  SUM(s.approved)::BIGINT AS approvals,
  AVG(s.probability) AS predicted
FROM scored s
WHERE s.probability IS NOT NULL
GROUP BY s.model, s.shadow, bin
ORDER BY s.model, s.shadow, bin
