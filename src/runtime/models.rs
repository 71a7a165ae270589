//! Which models are in use: the topic `control.models` as a table in memory, and the models that it names, loaded.
//!
//! Owns the swap: a model is read, checked against its golden rows and warm before decisions see it; one that is refused leaves the old one
//! standing, and is tried again. Decisions in flight keep the model that they began with. Never decides.

use crate::domain::control::{ControlModel, Stages};
use crate::engine::features::{Catalogue, CatalogueError, Encoder};
use crate::engine::hashing::unit_interval;
use crate::io::models;
use crate::learn::{self, Model};
use crate::telemetry;
use metrics::{counter, gauge};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The model that says how likely a PSP is to approve.
pub const PROCESSOR_SELECTOR: &str = "processor_selector";
/// A model that was refused is tried again after this long: its files may have come meanwhile.
const RETRY: Duration = Duration::from_secs(2);

pub struct Loaded {
    pub version: String,
    /// `name@version`.
    pub label: String,
    pub model: Model,
}

/// What decisions are made with.
#[derive(Clone, Default)]
pub struct Serving {
    pub champion: Option<Arc<Loaded>>,
    /// With its share of the payments.
    pub canary: Option<(Arc<Loaded>, f64)>,
    pub shadows: Vec<Arc<Loaded>>,
}

impl Serving {
    /// The model of a payment: all its decisions have the same, as long as the stages stay.
    pub fn of_payment(&self, salt: &str, payment_id: &str) -> Asking<'_> {
        let champion = self.champion.as_ref();
        let Some((canary, share)) = &self.canary else { return Asking { model: champion, others: None } };
        if unit_interval(&format!("{salt}/canary"), payment_id) < *share {
            Asking { model: Some(canary), others: Some((champion, *share)) }
        } else {
            Asking { model: champion, others: Some((Some(canary), 1.0 - share)) }
        }
    }
}

/// Who is asked about a payment.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub model: Option<&'a Arc<Loaded>>,
    /// Where payments are shared between two: whom the others have, and the share of those that have the same as this one.
    pub others: Option<(Option<&'a Arc<Loaded>>, f64)>,
}

pub struct ModelTable {
    encoder: Encoder,
    /// None: no models are looked for.
    directory: Option<PathBuf>,
    wanted: Mutex<Wanted>,
    serving: RwLock<Arc<Serving>>,
}

#[derive(Default)]
struct Wanted {
    stages: Stages,
    changed: bool,
    try_again_at: Option<Instant>,
}

impl ModelTable {
    pub fn new(directory: Option<PathBuf>) -> Result<Self, CatalogueError> {
        let encoder = Encoder::new(Catalogue::shipped()?);
        Ok(Self { encoder, directory, wanted: Mutex::default(), serving: RwLock::default() })
    }

    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub fn serving(&self) -> Arc<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next record of the topic.
    pub(super) fn apply(&self, record: &ControlModel) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.stages.apply(record);
        wanted.changed = true;
    }

    /// A record of the topic was deleted.
    pub(super) fn retract(&self, key: &str) {
        let Some((id, version)) = ControlModel::parse_key(key) else { return };
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.stages.retract(id, version);
        wanted.changed = true;
    }

    /// Loads what the stages ask for and takes it into use, if they changed, or if something was refused a while ago.
    pub(super) fn refresh(&self) {
        let Some(stages) = self.asked() else { return };
        let old = self.serving();
        let mut refused = false;
        let mut get = |version: &str| {
            let got = self.get(&old, version);
            refused |= got.is_none();
            got
        };
        let champion = stages.champion(PROCESSOR_SELECTOR);
        let canary = stages.canary(PROCESSOR_SELECTOR);
        let new = Serving {
            // One that is refused leaves the old one standing.
            champion: champion.and_then(|version| get(version).or_else(|| old.champion.clone())),
            canary: canary.and_then(|(version, share)| Some((get(version)?, share))),
            shadows: stages.shadows(PROCESSOR_SELECTOR).into_iter().filter_map(&mut get).collect(),
        };
        show(&old, &new);
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.try_again_at = refused.then(|| Instant::now() + RETRY);
    }

    fn asked(&self) -> Option<Stages> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = std::mem::take(&mut wanted.changed) || wanted.try_again_at.is_some_and(|at| at <= Instant::now());
        due.then(|| wanted.stages.clone())
    }

    fn get(&self, old: &Serving, version: &str) -> Option<Arc<Loaded>> {
        let known = old.champion.iter().chain(old.canary.iter().map(|(loaded, _)| loaded)).chain(&old.shadows);
        let known = known.into_iter().find(|loaded| loaded.version == version);
        known.cloned().or_else(|| self.load(version))
    }

    fn load(&self, version: &str) -> Option<Arc<Loaded>> {
        let directory = self.directory.as_ref()?;
        let label = format!("{PROCESSOR_SELECTOR}@{version}");
        let read = models::read(directory, PROCESSOR_SELECTOR, version).map_err(|error| error.to_string());
        let loaded =
            read.and_then(|files| learn::load(&files, &self.encoder.catalogue().version).map_err(|error| error.to_string()));
        match loaded {
            Ok(model) => Some(Arc::new(Loaded { version: version.to_owned(), label, model })),
            Err(error) => {
                counter!(telemetry::MODELS_REFUSED).increment(1);
                tracing::error!(model = label, error, "a model is refused; what is in use stays in use");
                None
            }
        }
    }
}

/// Tells of the change, in the log and for dashboards.
fn show(old: &Serving, new: &Serving) {
    let label = |loaded: Option<&Arc<Loaded>>| loaded.map_or_else(|| "none".to_owned(), |loaded| loaded.label.clone());
    let stages = |serving: &Serving| {
        let canary = serving.canary.as_ref().map(|(loaded, _)| loaded);
        let shadows = serving.shadows.iter().map(|loaded| ("shadow", Some(loaded)));
        let all = [("champion", serving.champion.as_ref()), ("canary", canary)].into_iter().chain(shadows);
        all.filter(|(_, loaded)| loaded.is_some()).map(|(stage, loaded)| (stage, label(loaded))).collect::<Vec<_>>()
    };
    let (before, now) = (stages(old), stages(new));
    for (stage, model) in before.iter().filter(|it| !now.contains(it)) {
        gauge!(telemetry::MODEL_IN_USE, "model" => model.clone(), "stage" => *stage).set(0.0);
    }
    for (stage, model) in &now {
        gauge!(telemetry::MODEL_IN_USE, "model" => model.clone(), "stage" => *stage).set(1.0);
    }
    if before != now {
        tracing::info!(champion = label(new.champion.as_ref()), in_use = ?now, "models");
    }
}
