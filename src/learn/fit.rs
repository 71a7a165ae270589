//! Training from a table to a model: search, cross-fitting, blend, calibration, a measure on rows kept back, and a last fit on all.
//!
//! What is reported was measured on the last part of the range by a model that had not seen it, nor been chosen by it. The model that is
//! returned has then been fitted once more in the same way on all rows, so that no data is wasted.

use super::calibration::{Blend, Calibration};
use super::columns::Choice;
use super::inputs::Inputs;
use super::measure::{Curves, Gain, Measured, Miss, Slice, Versus, gains, measure, misses, slices, versus};
use super::metrics::Scored;
use super::net::{Data, Net, NetOptions};
use super::policy_value::{self, Policy, PolicyValue};
use super::rates::sigmoid;
use super::scorer::{Member, Model, Scorer};
use super::search::{Family, Fold, Kind, Trial, gather, search};
use super::spec::{FitError, Ground, Spec};
use super::split::{self, Shares, Split};
use super::table::{Row, Table};
use serde::{Deserialize, Serialize};

/// Time blocks of the cross-fitting: the blend and the calibration of all rows are fitted on what was said of each by members that
/// were fitted on the other blocks.
const BLOCKS: usize = 5;
const ROWS_LEAST: usize = 500;
/// What an approval is taken to be worth, in the policies that are reported.
const SUCCESS_VALUES_MINOR: [i64; 4] = [1_000, 2_000, 3_000, 5_000];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub kind: Kind,
    pub seed: u64,
    pub shares: Shares,
    /// Trials of each family: the budget of the search.
    pub trials: usize,
    /// Fits of each drawn family, with seeds of their own, whose logits are averaged.
    pub bags: usize,
}

/// What was found out while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub kind: String,
    pub split: [usize; 3],
    pub trials: Vec<Trial>,
    /// Columns that the first member sees, and their combinations that have rates of their own, strongest first.
    pub columns: Vec<String>,
    pub crosses: Vec<String>,
    /// On the test rows: the model first, then its members, then the baselines.
    pub test: Vec<Measured>,
    pub slices: Vec<Slice>,
    pub curves: Curves,
    /// By how much the model is better than its members and the baselines.
    pub versus: Vec<Versus>,
    pub gains: Vec<Gain>,
    pub misses: Vec<Miss>,
    /// What the log loss on the test rows rises by when a column is shuffled, most first.
    pub importance: Vec<(String, f64)>,
    /// What policies that follow the model would have earned on the test rows: all attempts, and first ones only. Empty when the table
    /// does not say where else attempts could have gone, and how likely.
    pub policies: Vec<PolicyTold>,
    /// Members with their weights in the blend, and how it is calibrated.
    pub members: Vec<(String, f64)>,
    pub calibration: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyTold {
    /// `approval` or `expected_value`; by another than the model, where that is named.
    pub policy: String,
    pub success_value_minor: Option<i64>,
    pub first_attempts: bool,
    #[serde(flatten)]
    pub value: PolicyValue,
}

pub struct Trained {
    pub model: Model,
    pub report: Report,
}

/// Steps of a training, for a progress bar.
pub type Progress<'a> = &'a mut dyn FnMut(&str, usize, usize);

/// How many steps `train` takes.
pub fn steps(options: &Options) -> usize {
    let families = options.kind.families().len();
    1 + families + 2 * (BLOCKS + 1) * families
}

struct Work<'a, 'p> {
    table: &'a Table,
    options: &'a Options,
    specs: Vec<(Family, Spec)>,
    done: usize,
    progress: Progress<'p>,
}

pub fn train(table: &Table, options: &Options, progress: Progress<'_>) -> Result<Trained, FitError> {
    let Split { train, validation, test } = split::split(&table.rows, options.shares);
    if train.len() + validation.len() < ROWS_LEAST || test.is_empty() {
        return Err(FitError::Data(format!("{} rows are too few to learn from and to measure on", table.rows.len())));
    }
    let mut work = Work { table, options, specs: Vec::new(), done: 0, progress };
    let trials = work.search(&train, &validation)?;
    let known = [train.as_slice(), &validation].concat();
    let (measured, ground) = work.model(&known)?;
    work.step("measuring");
    let mut report = work.report(&measured, &ground, &test)?;
    report.split = [train.len(), validation.len(), test.len()];
    report.trials = trials;
    let every: Vec<u32> = (0..table.rows.len() as u32).collect();
    let (model, _) = work.model(&every)?;
    report.members = model.members().map(|(name, weight)| (name.to_owned(), weight)).collect();
    model.calibration.name().clone_into(&mut report.calibration);
    Ok(Trained { model, report })
}

impl Work<'_, '_> {
    fn step(&mut self, what: &str) {
        self.done += 1;
        (self.progress)(what, self.done, steps(self.options));
    }

    fn search(&mut self, train: &[u32], validation: &[u32]) -> Result<Vec<Trial>, FitError> {
        let (earlier, later) = train.split_at(train.len() * 2 / 3);
        let first = Ground::of(train.to_vec());
        let second = Ground::of(earlier.to_vec());
        let folds = [Fold { ground: &first, judged: validation }, Fold { ground: &second, judged: later }];
        let mut trials = Vec::new();
        for family in self.options.kind.families() {
            self.step(family.name());
            let (best, tried) = search(self.table, family, self.options.trials, [&folds[0], &folds[1]], self.options.seed)?;
            self.specs.push((family, best));
            trials.extend(tried);
        }
        Ok(trials)
    }

    /// The specified members fitted on `rows`, blended and calibrated by cross-fitting on them; and the ground that they were fitted on.
    fn model(&mut self, rows: &[u32]) -> Result<(Model, Ground), FitError> {
        let own: Vec<Row> = rows.iter().map(|row| self.table.rows[*row as usize].clone()).collect();
        let in_table = |part: Vec<u32>| part.into_iter().map(|index| rows[index as usize]).collect();
        let blocks: Vec<Vec<u32>> = split::blocks(&own, BLOCKS).into_iter().map(in_table).collect();
        let mut logits: Vec<Vec<f64>> = vec![Vec::new(); self.specs.len()];
        for left_out in 0..blocks.len() {
            let ground = Ground::of(split::others(&blocks, left_out));
            let values = gather(self.table, &blocks[left_out]);
            for (at, member) in self.members(&ground, "cross-fitting")?.iter().enumerate() {
                member.logits(&values, self.table.columns.len(), &mut logits[at]);
            }
        }
        let approved: Vec<bool> = blocks.iter().flatten().map(|row| self.table.rows[*row as usize].approved).collect();
        let blend = if logits.len() > 1 { Blend::fit(&logits, &approved) } else { Blend::even(1) };
        let blended: Vec<f64> = (0..approved.len()).map(|row| blend.logit(logits.iter().map(|of| of[row]))).collect();
        let calibration = Calibration::choose(&blended, &approved);
        let ground = Ground::of(rows.to_vec());
        let members = self.members(&ground, "fitting")?;
        let model = Model {
            kind: self.options.kind.name().to_owned(),
            catalogue: self.table.catalogue.clone(),
            columns: self.table.columns.iter().map(Into::into).collect(),
            members,
            blend,
            calibration,
        };
        Ok((model, ground))
    }

    fn members(&mut self, ground: &Ground, what: &str) -> Result<Vec<Member>, FitError> {
        let mut members = Vec::new();
        for (family, spec) in self.specs.clone() {
            self.step(&format!("{what} {}", family.name()));
            let bags = if family.is_drawn() { self.options.bags } else { 1 };
            let seeds: Vec<u64> = (0..bags as u64).map(|bag| self.options.seed.wrapping_add(bag)).collect();
            members.push(spec.fit(self.table, ground, &seeds)?);
        }
        Ok(members)
    }

    fn report(&self, model: &Model, ground: &Ground, test: &[u32]) -> Result<Report, FitError> {
        let (table, seed) = (self.table, self.options.seed);
        let rows: Vec<&Row> = test.iter().map(|row| &table.rows[*row as usize]).collect();
        let approved: Vec<bool> = rows.iter().map(|row| row.approved).collect();
        let values = gather(table, test);
        let mut said = Vec::new();
        model.score(&values, &mut said);
        let mut measured = vec![measure(model.kind.as_str(), &said, &rows, seed)];
        let mut others: Vec<(String, Member)> = Vec::new();
        if model.members.len() > 1 {
            others.extend(model.members().map(|(name, _)| name.to_owned()).zip(model.members.iter().cloned()));
        }
        for (name, spec) in baselines(table) {
            others.push((name, spec.fit(table, ground, &[])?));
        }
        let mut ahead = Vec::new();
        for (name, member) in &others {
            let mut logits = Vec::new();
            member.logits(&values, table.columns.len(), &mut logits);
            let theirs: Vec<f64> = logits.into_iter().map(sigmoid).collect();
            measured.push(measure(name, &theirs, &rows, seed));
            ahead.push(versus(name, [&said, &theirs], &rows, seed));
        }
        let scored = Scored { probabilities: &said, approved: &approved };
        let seen = ground.seen(table, self.specs.first().map_or(Choice::Few, |(_, spec)| spec.columns()));
        let name = |column: usize| table.columns[column].name.as_str();
        let spelt =
            |cross: &super::crosses::Cross| cross.parts.iter().map(|part| name(part.column)).collect::<Vec<_>>().join(" × ");
        Ok(Report {
            kind: model.kind.clone(),
            split: [0; 3],
            trials: Vec::new(),
            columns: seen.columns.iter().map(|column| name(*column).to_owned()).collect(),
            crosses: seen.crosses.iter().map(spelt).collect(),
            test: measured,
            slices: slices(&said, &rows, seed),
            curves: Curves::of(scored),
            versus: ahead,
            gains: gains(scored),
            misses: misses(&said, &rows),
            importance: super::importance::by_permutation(model, table, test, seed),
            policies: self.policies(model, &others, test),
            members: Vec::new(),
            calibration: String::new(),
        })
    }
}

impl Work<'_, '_> {
    /// Of the model, and of the mean of each PSP: the best that rules without a payment's properties can do.
    fn policies(&self, model: &Model, others: &[(String, Member)], test: &[u32]) -> Vec<PolicyTold> {
        let simple = others.iter().filter(|(name, _)| name == "psp_mean");
        let simple = simple.map(|(name, member)| (format!("approval by {name}"), model.of_one(member.clone())));
        let first = |row: &u32| self.table.rows[*row as usize].attempt_number == 1;
        let firsts: Vec<u32> = test.iter().copied().filter(first).collect();
        let values = SUCCESS_VALUES_MINOR.map(|success_value_minor| Policy::ExpectedValue { success_value_minor });
        let mut told = Vec::new();
        for (rows, first_attempts) in [(test, false), (&firsts, true)] {
            for policy in std::iter::once(Policy::Approval).chain(values) {
                let Ok(value) = policy_value::value(self.table, rows, model, policy, self.options.seed) else { continue };
                let success_value_minor = match policy {
                    Policy::Approval => None,
                    Policy::ExpectedValue { success_value_minor } => Some(success_value_minor),
                };
                told.push(PolicyTold { policy: policy.name().to_owned(), success_value_minor, first_attempts, value });
            }
        }
        for (policy, model) in simple {
            if let Ok(value) = policy_value::value(self.table, test, &model, Policy::Approval, self.options.seed) {
                told.push(PolicyTold { policy, success_value_minor: None, first_attempts: false, value });
            }
        }
        told
    }
}

/// A net of the design's size over all columns as they are, with no search, blend or calibration: to be measured, not to decide.
pub fn bare_net(table: &Table, epochs: usize) -> Result<Model, FitError> {
    let rows: Vec<u32> = (0..table.rows.len() as u32).collect();
    let inputs = Inputs { numbers: (0..table.columns.len()).collect(), ..Inputs::default() };
    let layers = vec![256, 128, 64];
    let options = NetOptions { layers, wide: false, rate: 0.001, decay: 0.1, dropout: 0.0, epochs, batch: 1_024 };
    let net = Net::fit(inputs, Vec::new(), &Data { table, rows: &rows, values: &table.values }, &options, &[1])?;
    Ok(Model {
        kind: "dnn".to_owned(),
        catalogue: table.catalogue.clone(),
        columns: table.columns.iter().map(Into::into).collect(),
        members: vec![Member::Net(net)],
        blend: Blend::even(1),
        calibration: Calibration::None,
    })
}

/// What any model has to beat: no features, the PSP, and the PSP with card brand and 3-D Secure.
fn baselines(table: &Table) -> Vec<(String, Spec)> {
    let find = |name: &str| table.columns.iter().position(|column| column.name == name);
    let (psp, brand, three_ds) = (find("psp"), find("card_brand"), find("three_ds"));
    let mut baselines = vec![("constant".to_owned(), Spec::Constant)];
    if let Some(psp) = psp {
        baselines.push(("psp_mean".to_owned(), Spec::Rates { columns: vec![psp] }));
        if let (Some(brand), Some(three_ds)) = (brand, three_ds) {
            baselines.push(("psp_brand_3ds".to_owned(), Spec::Rates { columns: vec![psp, brand, three_ds] }));
        }
    }
    baselines
}
