-- A model that looks on beside what decided, on the same decisions: over the whole time, by day, and by the PSP that took the first attempt.
WITH paired AS (
  SELECT
    s.model AS shadow_model,
    c.model AS champion_model,
    STRFTIME(c.scored_at, '%Y-%m-%d') AS scored_on,
    c.chosen = s.chosen AS agree,
    f.psp_id,
    f.psp_id = c.chosen AS took_champion_choice,
    f.psp_id = s.chosen AS took_shadow_choice,
    CASE WHEN f.approved THEN 1 WHEN NOT f.approved THEN 0 END AS approved,
    COALESCE(
      c.candidate_probabilities[list_position(c.candidate_psp_ids, f.psp_id)],
      c.candidate_raw_probabilities[list_position(c.candidate_psp_ids, f.psp_id)]) AS champion,
    COALESCE(
      s.candidate_probabilities[list_position(s.candidate_psp_ids, f.psp_id)],
      s.candidate_raw_probabilities[list_position(s.candidate_psp_ids, f.psp_id)]) AS shadow
  FROM ATHIA_PREDICTIONS s
  JOIN ATHIA_PREDICTIONS c ON c.decision_id = s.decision_id AND NOT c.shadow
  LEFT JOIN ATHIA_DECISION_OUTCOMES f ON f.decision_id = s.decision_id
  WHERE s.shadow AND EPOCH_MS(c.scored_at) >= @from@ AND EPOCH_MS(c.scored_at) < @to@
),
sliced AS (
  SELECT 'ALL' AS kind, '' AS slice, p.* FROM paired p
  UNION ALL
  SELECT 'DAY' AS kind, p.scored_on AS slice, p.* FROM paired p
  UNION ALL
  SELECT 'PSP' AS kind, p.psp_id AS slice, p.* FROM paired p WHERE p.psp_id IS NOT NULL
),
compared AS (
  SELECT
    s.*,
    s.champion IS NOT NULL AND s.shadow IS NOT NULL AND s.approved IS NOT NULL AS counts,
    -LN(CASE WHEN s.approved = 1 THEN GREATEST(s.champion, 1e-12) ELSE 1 - LEAST(s.champion, 1 - 1e-12) END) AS champion_loss,
    -LN(CASE WHEN s.approved = 1 THEN GREATEST(s.shadow, 1e-12) ELSE 1 - LEAST(s.shadow, 1 - 1e-12) END) AS shadow_loss
  FROM sliced s
),
ranked AS (
  SELECT
    c.*,
    RANK() OVER champions + (COUNT(*) OVER (champions RANGE BETWEEN CURRENT ROW AND CURRENT ROW) - 1) / 2.0 AS champion_place,
    RANK() OVER shadows + (COUNT(*) OVER (shadows RANGE BETWEEN CURRENT ROW AND CURRENT ROW) - 1) / 2.0 AS shadow_place
  FROM compared c
  WINDOW
    champions AS (PARTITION BY c.shadow_model, c.champion_model, c.kind, c.slice, c.counts ORDER BY c.champion),
    shadows AS (PARTITION BY c.shadow_model, c.champion_model, c.kind, c.slice, c.counts ORDER BY c.shadow)
)
SELECT
  r.shadow_model,
  r.champion_model,
  r.kind,
  r.slice,
  COUNT(*) AS decisions,
  COUNT(*) FILTER (WHERE r.agree) AS agreed,
  COUNT(*) FILTER (WHERE r.counts) AS attempts,
  COUNT(*) FILTER (WHERE r.counts AND r.approved = 1) AS approvals,
  AVG(r.champion) FILTER (WHERE r.counts) AS champion_predicted,
  AVG(r.shadow) FILTER (WHERE r.counts) AS shadow_predicted,
  AVG(r.champion_loss) FILTER (WHERE r.counts) AS champion_log_loss,
  AVG(r.shadow_loss) FILTER (WHERE r.counts) AS shadow_log_loss,
  STDDEV_SAMP(r.champion_loss - r.shadow_loss) FILTER (WHERE r.counts) AS log_loss_spread,
  AVG((r.champion - r.approved) ** 2) FILTER (WHERE r.counts) AS champion_brier,
  AVG((r.shadow - r.approved) ** 2) FILTER (WHERE r.counts) AS shadow_brier,
  SUM(r.champion_place) FILTER (WHERE r.counts AND r.approved = 1) AS champion_places,
  SUM(r.shadow_place) FILTER (WHERE r.counts AND r.approved = 1) AS shadow_places,
  COUNT(*) FILTER (WHERE r.agree AND r.took_champion_choice) AS agreed_taken,
  COUNT(*) FILTER (WHERE r.agree AND r.took_champion_choice AND r.approved = 1) AS agreed_approvals,
  COUNT(*) FILTER (WHERE NOT r.agree AND r.took_champion_choice) AS champion_taken,
  COUNT(*) FILTER (WHERE NOT r.agree AND r.took_champion_choice AND r.approved = 1) AS champion_approvals,
  COUNT(*) FILTER (WHERE NOT r.agree AND r.took_shadow_choice) AS shadow_taken,
  COUNT(*) FILTER (WHERE NOT r.agree AND r.took_shadow_choice AND r.approved = 1) AS shadow_approvals
FROM ranked r
GROUP BY r.shadow_model, r.champion_model, r.kind, r.slice
ORDER BY decisions DESC, r.shadow_model, r.champion_model, r.kind, r.slice
