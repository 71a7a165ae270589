-- Payments by day (UTC) of their first attempt: how many it took, and how they ended.
SELECT
  STRFTIME(s.first_attempted_at, '%Y-%m-%d') AS day,
  COUNT(*) AS payments,
  COUNT(*) FILTER (WHERE s.approved_at_first) AS approved_at_first,
  COUNT(*) FILTER (WHERE NOT s.approved_at_first AND s.attempts > 1) AS retried,
  COUNT(*) FILTER (WHERE NOT s.approved_at_first AND s.approved) AS recovered
FROM ATHIA_SESSION_SUMMARY s
WHERE EPOCH_MS(s.first_attempted_at) >= @from@ AND EPOCH_MS(s.first_attempted_at) < @to@
GROUP BY day
ORDER BY day
