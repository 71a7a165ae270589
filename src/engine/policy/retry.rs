//! Whether, when and where another attempt on the payment is worth making.
//!
//! Before the first attempt the plan looks ahead: what to do when the PSP that is ranked first fails.

use super::Router;
use crate::domain::decision::RetryPlan;
use crate::domain::payment::{PreviousAttempt, Status};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::Verdict;

pub(super) fn plan(router: &Router, history: &[PreviousAttempt], order: &[PspId], decided_at: EpochMs) -> RetryPlan {
    if order.is_empty() {
        return no("no PSP can take the payment".into());
    }
    let attempts_max = router.retry.attempts_max;
    // The last of equals: callers list attempts in the order in which they made them.
    let Some(last) = history.iter().max_by_key(|attempt| attempt.attempted_at) else {
        return ahead(attempts_max, order);
    };
    if let Some(approved) = history.iter().find(|attempt| attempt.status == Status::Approved) {
        return no(format!("attempt {} is approved", approved.attempt_id));
    }
    if let Some(hard) = history.iter().find(|attempt| router.judge(attempt) == Some(Verdict::HardDecline)) {
        let code = hard.error_code.as_deref().unwrap_or("without code");
        return no(format!("hard decline {code} by attempt {}", hard.attempt_id));
    }
    if let Some(open) = history.iter().find(|attempt| attempt.status == Status::Unknown) {
        return no(format!("attempt {} at {} has no outcome yet: a retry could charge twice", open.attempt_id, open.psp_id));
    }
    if history.len() >= usize::try_from(attempts_max).unwrap_or(0) {
        return no(format!("{} attempts, retry.attempts_max is {attempts_max}", history.len()));
    }
    after(router, last, order, decided_at)
}

fn after(router: &Router, last: &PreviousAttempt, order: &[PspId], decided_at: EpochMs) -> RetryPlan {
    let technical = router.failed_technically(last);
    let usual_ms = if technical { router.retry.technical_wait_ms } else { router.retry.soft_wait_ms };
    let code = last.error_code.as_deref();
    let own_ms = code.and_then(|code| router.codes.find(&last.psp_id, code)).and_then(|entry| entry.retry_after_ms);
    let wait_ms = own_ms.unwrap_or(usual_ms);
    let what = if technical { "technical failure" } else { "soft decline" };
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    RetryPlan {
        should_retry: true,
        not_before: Some(last.attempted_at.saturating_add(wait_ms).max(decided_at)),
        psp_order: order.to_vec(),
        reason: format!("{what}{code} at {}: retry {wait_ms} ms after it", last.psp_id),
    }
}

fn ahead(attempts_max: i32, order: &[PspId]) -> RetryPlan {
    if attempts_max < 2 {
        return no(format!("retry.attempts_max is {attempts_max}"));
    }
    let mut next = order.to_vec();
    next.rotate_left(1);
    let reason = format!(
        "no attempt yet: after a soft decline or technical failure, up to {attempts_max} attempts; never after a hard decline"
    );
    RetryPlan { should_retry: true, not_before: None, psp_order: next, reason }
}

fn no(reason: String) -> RetryPlan {
    RetryPlan { should_retry: false, not_before: None, psp_order: Vec::new(), reason }
}
