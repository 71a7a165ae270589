//! What another policy would have earned, from attempts whose PSP was drawn with known probabilities.
//!
//! IPS weighs each attempt by how much likelier the policy would have sent it where it went; SNIPS divides by the sum of the weights,
//! not by the rows; DR begins from what the model expects of the policy's choice and corrects it by the attempts that went there.

use super::interval::{Estimate, Samples};
use super::scorer::Scorer;
use super::table::{Alternative, Row, Table};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use thiserror::Error;

const SAMPLES: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// The PSP with the highest approval probability.
    Approval,
    /// The PSP with the highest p × (value − success fee) − (1 − p) × failure fee.
    ExpectedValue { success_value_minor: i64 },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error(
        "the dataset says of no attempt where else it could have gone, so no other policy can be judged; build it with propensities"
    )]
    NoAlternatives,
    #[error("of {0} attempts the probability with which their PSP was chosen is not known; build the dataset with propensities")]
    NoPropensity(usize),
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::ExpectedValue { .. } => "expected_value",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "approval" => Ok(Self::Approval),
            "expected_value" => Ok(Self::ExpectedValue { success_value_minor: 0 }),
            _ => Err("one of approval, expected_value".to_owned()),
        }
    }
}

/// One attempt as the estimators see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// Probability with which the attempt went where it did.
    pub propensity: f64,
    /// Probability with which the policy would have sent it there.
    pub policy: f64,
    pub reward: f64,
    /// Reward that the model expects where it went.
    pub expected: f64,
    /// Reward that the model expects of the policy, over all its choices.
    pub expected_of_policy: f64,
}

pub fn ips(logged: &[Logged]) -> Option<f64> {
    mean(logged.iter().map(|it| it.policy / it.propensity * it.reward))
}

pub fn snips(logged: &[Logged]) -> Option<f64> {
    let weights: f64 = logged.iter().map(|it| it.policy / it.propensity).sum();
    (weights > 0.0).then(|| logged.iter().map(|it| it.policy / it.propensity * it.reward).sum::<f64>() / weights)
}

pub fn dr(logged: &[Logged]) -> Option<f64> {
    mean(logged.iter().map(|it| it.expected_of_policy + it.policy / it.propensity * (it.reward - it.expected)))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    (count > 0.0).then(|| sum / count)
}

/// In units of the policy: approvals for one attempt, or minor units for one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyValue {
    pub rows: usize,
    pub ips: Option<Estimate>,
    pub snips: Option<Estimate>,
    pub dr: Option<Estimate>,
    /// What the attempts as they went were worth, by the same measure.
    pub logged: Option<Estimate>,
    /// What the policy, by DR, is worth more than that.
    pub lift: Option<Estimate>,
    /// Mean fee of an attempt under the policy, by DR, in minor units.
    pub cost_per_attempt_minor: Option<Estimate>,
    /// Share of the attempts that the policy would have sent where they went.
    pub agreement: f64,
}

/// `rows`: which to judge on; the model should not have seen them.
pub fn value(table: &Table, rows: &[u32], model: &impl Scorer, policy: Policy, seed: u64) -> Result<PolicyValue, PolicyError> {
    if table.alternatives.is_empty() {
        return Err(PolicyError::NoAlternatives);
    }
    let unknown = rows.iter().filter(|row| table.rows[**row as usize].propensity.is_none_or(|it| it <= 0.0)).count();
    if unknown > 0 {
        return Err(PolicyError::NoPropensity(unknown));
    }
    let judged: Vec<(Logged, Logged)> = rows.iter().map(|row| judge(table, *row as usize, model, policy)).collect();
    let samples = Samples::draw(rows.iter().map(|row| table.rows[*row as usize].payment_id.as_str()), SAMPLES, seed);
    let of = |drawn: &[u32], pick: fn(&(Logged, Logged)) -> Logged| {
        drawn.iter().map(|row| pick(&judged[*row as usize])).collect::<Vec<_>>()
    };
    let estimate = |pick: fn(&(Logged, Logged)) -> Logged, figure: fn(&[Logged]) -> Option<f64>| {
        samples.estimate(judged.len(), |drawn| figure(&of(drawn, pick)))
    };
    let reward = |it: &(Logged, Logged)| it.0;
    let agreed = judged.iter().filter(|it| it.0.policy > 0.0).count() as f64;
    Ok(PolicyValue {
        rows: judged.len(),
        ips: estimate(reward, ips),
        snips: estimate(reward, snips),
        dr: estimate(reward, dr),
        logged: estimate(reward, |logged| mean(logged.iter().map(|it| it.reward))),
        lift: estimate(reward, |logged| Some(dr(logged)? - mean(logged.iter().map(|it| it.reward))?)),
        cost_per_attempt_minor: estimate(|it| it.1, dr),
        agreement: if judged.is_empty() { 0.0 } else { agreed / judged.len() as f64 },
    })
}

/// A place where an attempt could go.
struct Choice {
    p: f64,
    fee_minor: [f64; 2],
}

impl Choice {
    fn cost(&self) -> f64 {
        self.p * self.fee_minor[0] + (1.0 - self.p) * self.fee_minor[1]
    }

    fn worth(&self, policy: Policy) -> f64 {
        match policy {
            Policy::Approval => self.p,
            Policy::ExpectedValue { success_value_minor } => self.p * success_value_minor as f64 - self.cost(),
        }
    }
}

/// What is earned, and what it costs.
fn judge(table: &Table, row: usize, model: &impl Scorer, policy: Policy) -> (Logged, Logged) {
    let taken: &Row = &table.rows[row];
    let others = others(table, row);
    let mut values = table.features(row).to_vec();
    for other in others {
        values.extend(&other.values);
    }
    let mut said = Vec::new();
    model.score(&values, &mut said);
    let fees = std::iter::once(taken.fee_minor).chain(others.iter().map(|other| other.fee_minor));
    let choices: Vec<Choice> =
        said.into_iter().zip(fees).map(|(p, fee)| Choice { p, fee_minor: fee.map(|it| it as f64) }).collect();
    // The first of equals.
    let best = (0..choices.len()).reduce(
        |best, next| {
            if choices[next].worth(policy) > choices[best].worth(policy) { next } else { best }
        },
    );
    let best = best.unwrap_or(0);
    let fee = taken.fee_minor[usize::from(!taken.approved)] as f64;
    let reward = match policy {
        Policy::Approval => f64::from(u8::from(taken.approved)),
        Policy::ExpectedValue { success_value_minor } => f64::from(u8::from(taken.approved)) * success_value_minor as f64 - fee,
    };
    let of_policy = f64::from(u8::from(best == 0));
    let propensity = taken.propensity.unwrap_or(1.0);
    let logged = |reward, expected: f64, expected_of_policy: f64| Logged {
        propensity,
        policy: of_policy,
        reward,
        expected,
        expected_of_policy,
    };
    (logged(reward, choices[0].worth(policy), choices[best].worth(policy)), logged(fee, choices[0].cost(), choices[best].cost()))
}

fn others(table: &Table, row: usize) -> &[Alternative] {
    let from = table.alternatives.partition_point(|it| (it.row as usize) < row);
    let to = table.alternatives.partition_point(|it| (it.row as usize) <= row);
    &table.alternatives[from..to]
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::domain::PspId;

    /// Figures that obp (`PyPI`) gives for the same rows; the file says of which version and which estimators.
    #[test]
    fn estimators_equal_those_of_obp() {
        let made: serde_json::Value = serde_json::from_str(include_str!("policy_value_obp.json")).unwrap();
        let cases = made["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let of = |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
            let columns = ["propensity", "policy", "reward", "expected", "expected_of_policy"].map(of);
            let row = |at: usize| Logged {
                propensity: columns[0][at],
                policy: columns[1][at],
                reward: columns[2][at],
                expected: columns[3][at],
                expected_of_policy: columns[4][at],
            };
            let logged: Vec<Logged> = (0..columns[0].len()).map(row).collect();
            for (key, found) in [("ips", ips(&logged)), ("snips", snips(&logged)), ("dr", dr(&logged))] {
                assert!((found.unwrap() - case[key].as_f64().unwrap()).abs() < 1e-9, "{key}: {found:?}, obp {}", case[key]);
            }
        }
    }

    /// The approval probability is the last column.
    struct Told;

    impl Scorer for Told {
        fn width(&self) -> usize {
            4
        }

        fn score(&self, rows: &[f32], out: &mut Vec<f64>) {
            out.extend(rows.chunks_exact(4).map(|row| f64::from(row[3])));
        }
    }

    #[test]
    fn a_policy_is_worth_what_its_choices_are() {
        // PSP a approves everything and costs 3, PSP b nothing and costs 1; half of the attempts went to each.
        let mut table = fixtures::table(1_000, 1);
        for (index, row) in table.rows.iter_mut().enumerate() {
            let (own, other) = if index % 2 == 0 { (0.9, 0.1) } else { (0.1, 0.9) };
            row.approved = index % 2 == 0;
            row.propensity = Some(0.5);
            let fee = |p: f32| if p > 0.5 { [300, 300] } else { [100, 100] };
            row.fee_minor = fee(own);
            table.values[index * 4 + 3] = own;
            let values = vec![0.0, 0.0, 0.0, other];
            table.alternatives.push(Alternative {
                row: index as u32,
                psp_id: PspId::new("o"),
                fee_minor: fee(other),
                propensity: Some(0.5),
                values,
            });
        }
        let rows: Vec<u32> = (0..1_000).collect();
        let of = |policy| value(&table, &rows, &Told, policy, 1).unwrap();
        let approval = of(Policy::Approval);
        let near = |found: Option<Estimate>, expected: f64| {
            let found = found.unwrap();
            assert!(
                (found.value - expected).abs() < 1e-6 && found.low <= expected + 1e-6 && expected - 1e-6 <= found.high,
                "{found:?} {expected}"
            );
        };
        near(approval.snips, 1.0);
        near(approval.ips, 1.0);
        near(approval.dr, 1.0);
        near(approval.logged, 0.5);
        near(approval.cost_per_attempt_minor, 300.0);
        // An approval that is worth 1 is not worth the fee of a; one worth 1,000 is.
        near(of(Policy::ExpectedValue { success_value_minor: 1 }).snips, -100.0);
        near(of(Policy::ExpectedValue { success_value_minor: 1_000 }).snips, 700.0);
        table.rows[3].propensity = None;
        assert_eq!(value(&table, &rows, &Told, Policy::Approval, 1), Err(PolicyError::NoPropensity(1)));
        table.alternatives.clear();
        assert_eq!(value(&table, &rows, &Told, Policy::Approval, 1), Err(PolicyError::NoAlternatives));
    }
}
