-- Of the attempts that followed one decision the first: what came after knew more than the decision did.
SELECT s.*, CASE WHEN s.approved THEN 1.0 ELSE 0.0 END AS reward
FROM ATHIA_STAGE_OUTCOMES s
WHERE s.decision_id IS NOT NULL
QUALIFY ROW_NUMBER() OVER (PARTITION BY s.decision_id ORDER BY s.attempted_at, s.outcome_at, s.attempt_id) = 1
