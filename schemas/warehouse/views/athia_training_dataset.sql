-- Features as the decision saw them, and the label that came later: one row per decision that was followed, by the first attempt that
-- followed it. Nothing is computed anew, so a row knows nothing that the decision did not.
SELECT
  p.decision_id,
  p.payment_id,
  f.attempt_id,
  p.model,
  p.feature_version,
  p.scored_at,
  f.attempted_at,
  f.outcome_at,
  f.psp_id,
  p.request_features,
  @taken_features@ AS psp_features,
  @taken_probability@ AS probability,
  CASE WHEN f.psp_id = p.chosen THEN @taken_propensity@ END AS propensity,
  f.approved AS label,
  f.reward,
  f.amount_minor,
  f.currency,
  f.fee_minor
FROM ATHIA_PREDICTIONS p
JOIN ATHIA_DECISION_OUTCOMES f ON f.decision_id = p.decision_id
WHERE NOT p.shadow AND p.feature_version <> '' AND @taken_features@ IS NOT NULL
