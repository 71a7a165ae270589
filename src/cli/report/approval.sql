-- Attempts and approvals of each PSP by hour (UTC) of the attempt, back to where the baseline begins.
SELECT
  s.psp_id,
  EPOCH_MS(DATE_TRUNC('hour', s.attempted_at)) AS hour,
  COUNT(*) AS attempts,
  COUNT(*) FILTER (WHERE s.approved) AS approvals
FROM ATHIA_STAGE_OUTCOMES s
WHERE EPOCH_MS(s.attempted_at) >= @from@ AND EPOCH_MS(s.attempted_at) < @to@ AND s.stage <= @stage_max@
GROUP BY s.psp_id, hour
ORDER BY s.psp_id, hour
