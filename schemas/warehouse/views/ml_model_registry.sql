-- One row per version of a model: the stage that it has now, who gave it that and why, and its card. A version without stage serves nowhere.
WITH newest AS (
  SELECT m.*
  FROM ML_MODEL_STAGES m
  QUALIFY ROW_NUMBER() OVER (PARTITION BY m.model, m.version ORDER BY m.offset DESC) = 1
)
SELECT
  COALESCE(c.model, n.model) AS model,
  COALESCE(c.version, n.version) AS version,
  n.stage,
  n.stage_at,
  n.stage_by,
  n.settings_json,
  c.card_json,
  c.lineage_json,
  c.gate_json
FROM ML_MODEL_CARDS c
FULL OUTER JOIN newest n ON n.model = c.model AND n.version = c.version
