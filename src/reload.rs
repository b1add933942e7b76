//! Files that change while the gate runs: a whole new Snapshot, or the old one.
//!
//! A few times a minute the contents of everything that the configuration points to are read (modification times say
//! nothing about mounts that are swapped by a link) and compared with what the present snapshot was made of. What has changed is made
//! anew, what has not is taken over, so that a new token does not cost the connections to the upstream. Then everything is read once
//! more: only when nothing has moved meanwhile is the new snapshot taken up. If anything cannot be read or understood, nothing changes.
//!
//! The configuration file itself is read once, at start.

use crate::{
    audit::{policy::Policy, sink},
    authn::{self, Authn},
    authz::{self, Authz, Live, Mode, Tell},
    config::{Config, Error, Errors, PolicySource},
    endpoint::{self, Endpoint},
    forward::{self, Forward},
    gateway::{Gateway, Snapshot},
    rbac::{self, Counts},
    server::tls::{self, Serving},
};
use aws_lc_rs::digest;
use std::{
    hash::{Hash, Hasher},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::time::{MissedTickBehavior, interval};

/// SHA-256 of everything a part was made of.
type Print = [u8; 32];

/// What came of some files.
#[derive(Debug)]
pub(crate) struct Part<T> {
    print: Print,
    pub(crate) made: Arc<T>,
    /// What is odd but harmless, a line each.
    pub(crate) warnings: Arc<[String]>,
}

/// Everything that files decide.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub(crate) serving: Part<Serving>,
    pub(crate) authn: Part<Authn>,
    pub(crate) rules: Part<Rules>,
    pub(crate) candidate: Part<Candidate>,
    pub(crate) forward: Part<Forward>,
    pub(crate) policy: Part<Policy>,
    /// What is known of the cluster's rules; no file tells.
    live: Live,
    /// Made of `rules`, `candidate` and `live`.
    authz: Arc<Authz>,
    /// What is wrong with a changed candidate, which is the old one for that reason.
    held: Option<Errors>,
}

/// The rules, and how much of them came from files.
#[derive(Debug)]
pub(crate) struct Rules {
    files: Arc<rbac::Rules>,
    mode: Mode,
    tell: Tell,
    pub(crate) own: Counts,
}

/// The shadow rules, if there are any, and how much of them came from files.
#[derive(Debug, Default)]
pub(crate) struct Candidate {
    rules: Option<Arc<rbac::Rules>>,
    pub(crate) own: Option<Counts>,
}

/// Loads everything that decides on requests. All errors are reported, not only the first.
pub fn load(config: &Config, shared: &Arc<authn::Shared>) -> Result<Loaded, Errors> {
    let (loaded, sinks) = (Loaded::read(config, shared, None), sinks(&config.file, &config.audit.sinks));
    match loaded {
        Ok(loaded) if sinks.is_empty() => Ok(loaded),
        loaded => Err(Errors(loaded.err().into_iter().flatten().chain(sinks).collect())),
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { print: self.print, made: self.made.clone(), warnings: self.warnings.clone() }
    }
}

// === impl Loaded ===

impl Loaded {
    /// What requests are decided by.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            authn: self.authn.made.clone(),
            authz: self.authz.clone(),
            forward: self.forward.made.clone(),
            tls: self.serving.made.config().clone(),
        }
    }

    /// What is recorded.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy.made
    }

    /// What is odd but harmless, a line each.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        let (rules, candidate) = (&self.rules.warnings, &self.candidate.warnings);
        let parts = [&self.serving.warnings, &self.authn.warnings, rules, candidate, &self.forward.warnings];
        parts.into_iter().flat_map(|warnings| warnings.iter())
    }

    /// Reads everything; makes what differs from `before`.
    fn read(config: &Config, shared: &Arc<authn::Shared>, before: Option<&Self>) -> Result<Self, Vec<Error>> {
        let (file, mut errors) = (config.file.as_path(), Vec::new());
        let mut keep = |failed: Vec<Error>| errors.extend(failed);
        let serving = serving(file, &config.tls, before.map(|b| &b.serving)).map_err(&mut keep).ok();
        let authn = authn(file, &config.authn, shared, before.map(|b| &b.authn)).map_err(&mut keep).ok();
        let rules = rules(file, &config.authz, before.map(|b| &b.rules)).map_err(&mut keep).ok();
        // A rehearsal must not keep from being taken up what counts.
        let (candidate, held) = match (candidate(file, &config.authz, before.map(|b| &b.candidate)), before) {
            (Ok(candidate), _) => (Some(candidate), None),
            (Err(failed), Some(before)) => (Some(before.candidate.clone()), Some(Errors(failed))),
            (Err(failed), None) => {
                keep(failed);
                (None, None)
            }
        };
        let forward = forward(file, &config.endpoint, &config.forward, before.map(|b| &b.forward));
        let forward = forward.map_err(&mut keep).ok();
        let policy = policy(file, &config.policy, before.map(|b| &b.policy)).map_err(&mut keep).ok();
        match (serving, authn, rules, candidate, forward, policy) {
            (Some(serving), Some(authn), Some(rules), Some(candidate), Some(forward), Some(policy)) => {
                let live = before.map_or_else(|| unlisted(&config.authz), |before| before.live.clone());
                let same = before.filter(|before| {
                    before.rules.print == rules.print && before.candidate.print == candidate.print
                });
                let authz = match same {
                    Some(before) => before.authz.clone(),
                    None => rules.made.authz(&candidate.made, &live),
                };
                Ok(Self { serving, authn, rules, candidate, forward, policy, live, authz, held })
            }
            _ => Err(errors),
        }
    }

    /// The same with what is known now of the cluster's rules.
    fn set_live(&mut self, live: Live) {
        if self.live != live {
            self.authz = self.rules.made.authz(&self.candidate.made, &live);
            self.live = live;
        }
    }

    fn prints(&self) -> [Print; 6] {
        let (rules, candidate) = (self.rules.print, self.candidate.print);
        [self.serving.print, self.authn.print, rules, candidate, self.forward.print, self.policy.print]
    }

    /// Which parts are not those of `other`, by name.
    fn changed_from(&self, other: &Self) -> Vec<&'static str> {
        let names = ["serving pair", "authentication", "rules", "shadow rules", "upstream", "audit policy"];
        let pairs = self.prints().into_iter().zip(other.prints());
        names.into_iter().zip(pairs).filter(|(_, (a, b))| a != b).map(|(name, _)| name).collect()
    }
}

/// What is known of the cluster's rules before they have been listed.
fn unlisted(config: &authz::Config) -> Live {
    match config.cluster {
        Some(_) => Live::Unknown("the cluster's rules have not been listed yet".into()),
        None => Live::Off,
    }
}

impl Rules {
    /// What decides by them and by what is known of the cluster's.
    pub(crate) fn authz(&self, candidate: &Candidate, live: &Live) -> Arc<Authz> {
        let authz = Authz::new(self.files.clone(), self.tell.clone());
        let authz =
            authz.with_cluster(live.clone()).with_shadow(candidate.rules.clone()).with_mode(self.mode);
        Arc::new(authz)
    }
}

// === parts ===

/// The serving pair.
pub(crate) fn serving(
    file: &Path,
    config: &tls::Config,
    before: Option<&Part<Serving>>,
) -> Result<Part<Serving>, Vec<Error>> {
    let at = errors_at(file, "listen");
    let map = |errors: Vec<tls::Error>| at(errors.into_iter().map(|e| (e.key, e.problem)).collect());
    part(before, config.read().map_err(map)?, |files| {
        let serving = Serving::from_files(files).map_err(map)?;
        let warnings = serving.warnings(SystemTime::now());
        Ok((serving, warnings))
    })
}

/// The authenticators.
pub(crate) fn authn(
    file: &Path,
    config: &authn::Config,
    shared: &Arc<authn::Shared>,
    before: Option<&Part<Authn>>,
) -> Result<Part<Authn>, Vec<Error>> {
    let at = errors_at(file, "authentication");
    let map = |errors: Vec<authn::Error>| at(errors.into_iter().map(|e| (e.key, e.problem)).collect());
    part(before, config.read().map_err(map)?, |files| {
        Authn::new(files, shared, before.map(|before| &*before.made)).map_err(map)
    })
}

/// The rules.
pub(crate) fn rules(
    file: &Path,
    config: &authz::source::Config,
    before: Option<&Part<Rules>>,
) -> Result<Part<Rules>, Vec<Error>> {
    let at = errors_at(file, "authorization.rbac");
    let files = config.read().map_err(|errors| at(lines("files", errors)))?;
    part(before, (files, config.mode, &config.tell), |(files, mode, tell)| {
        let loaded = files.rules().map_err(|problems| at(lines("files", problems)))?;
        let (files, mode, tell) = (Arc::new(loaded.rules), *mode, (*tell).clone());
        Ok((Rules { files, mode, tell, own: loaded.own }, loaded.warnings))
    })
}

/// The shadow rules.
pub(crate) fn candidate(
    file: &Path,
    config: &authz::source::Config,
    before: Option<&Part<Candidate>>,
) -> Result<Part<Candidate>, Vec<Error>> {
    let at = errors_at(file, "authorization.shadow");
    let files = config.shadow.as_ref().map(authz::Shadow::read).transpose();
    part(before, files.map_err(|errors| at(lines("files", errors)))?, |files| {
        let Some(files) = files else { return Ok((Candidate::default(), Vec::new())) };
        let loaded = files.rules().map_err(|problems| at(lines("files", problems)))?;
        let warnings = loaded.warnings.iter().map(|warning| format!("shadow rules: {warning}")).collect();
        Ok((Candidate { rules: Some(Arc::new(loaded.rules)), own: Some(loaded.own) }, warnings))
    })
}

/// The upstream.
pub(crate) fn forward(
    file: &Path,
    endpoint: &endpoint::Config,
    config: &forward::Config,
    before: Option<&Part<Forward>>,
) -> Result<Part<Forward>, Vec<Error>> {
    let at = errors_at(file, "upstream");
    let map = |errors: Vec<endpoint::Error>| at(errors.into_iter().map(|e| (e.key, e.problem)).collect());
    part(before, endpoint.read().map_err(map)?, |source| {
        let endpoint = Endpoint::new(source).map_err(map)?;
        let warnings = endpoint.warnings().to_vec();
        Ok((Forward::new(Arc::new(endpoint), config.clone()), warnings))
    })
}

/// What is recorded.
pub(crate) fn policy(
    file: &Path,
    source: &PolicySource,
    before: Option<&Part<Policy>>,
) -> Result<Part<Policy>, Vec<Error>> {
    let at = errors_at(file, "audit");
    let map = |problems: Vec<String>| at(lines("policyFile", problems));
    let text = source.read().map_err(|problem| map(vec![problem]))?;
    part(before, text, |text| Ok((source.understand(text.as_ref()).map_err(map)?, Vec::new())))
}

/// What is wrong with what the record's sinks are reached by. From then on they read it themselves.
pub(crate) fn sinks(file: &Path, sinks: &[sink::Config]) -> Vec<Error> {
    let faults = |(i, sink): (usize, &sink::Config)| {
        let sink::Receiver::Webhook(webhook) = &sink.receiver else { return Vec::new() };
        let made = webhook.endpoint.read().and_then(|source| Endpoint::webhook(&source));
        let error = |fault: endpoint::Error| Error {
            file: file.display().to_string(),
            key: format!("audit.sinks[{i}].webhook.{}", fault.key),
            problem: fault.problem,
        };
        made.err().unwrap_or_default().into_iter().map(error).collect()
    };
    sinks.iter().enumerate().flat_map(faults).collect()
}

/// What `before` made of the same files, or what `make` makes of these.
fn part<F: Hash, T, A: Into<Arc<T>>>(
    before: Option<&Part<T>>,
    files: F,
    make: impl FnOnce(&F) -> Result<(A, Vec<String>), Vec<Error>>,
) -> Result<Part<T>, Vec<Error>> {
    let print = print(&files);
    if let Some(before) = before.filter(|before| before.print == print) {
        return Ok(before.clone());
    }
    let (made, warnings) = make(&files)?;
    Ok(Part { print, made: made.into(), warnings: warnings.into() })
}

fn errors_at(
    file: &Path,
    section: &'static str,
) -> impl Fn(Vec<(&'static str, String)>) -> Vec<Error> + Copy {
    move |errors| {
        let error = |(key, problem): (&str, String)| Error {
            file: file.display().to_string(),
            key: format!("{section}.{key}"),
            problem,
        };
        errors.into_iter().map(error).collect()
    }
}

fn lines<L: ToString>(key: &'static str, lines: Vec<L>) -> Vec<(&'static str, String)> {
    lines.into_iter().map(|line| (key, line.to_string())).collect()
}

fn print(files: &impl Hash) -> Print {
    struct Sha(digest::Context);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(digest::Context::new(&digest::SHA256));
    files.hash(&mut sha);
    let mut print = [0; 32];
    print.copy_from_slice(sha.0.finish().as_ref());
    print
}

// === the task ===

/// Polls the contents of the files a snapshot was made of.
#[derive(Debug)]
pub struct Reloader {
    config: Config,
    shared: Arc<authn::Shared>,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    present: Loaded,
    /// What was wrong at the last look, so that it is said once.
    failed: Option<Errors>,
    token_failed: Option<String>,
}

/// What a look at the files has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed.
    Same,
    /// These parts are new.
    Changed(Vec<&'static str>),
    /// They changed while they were read; the next look will tell.
    Moving,
    /// They cannot be used; everything is as it was.
    Refused(Errors),
}

impl Reloader {
    /// Watches over what `present` was made of.
    pub fn new(config: Config, shared: Arc<authn::Shared>, gateway: Arc<Gateway>, present: Loaded) -> Self {
        let state = State { present, failed: None, token_failed: None };
        gateway.metrics().serving_certificate(state.present.serving.made.expires());
        state.present.authn.made.start();
        Self { config, shared, gateway, state: Mutex::new(state), looking: tokio::sync::Mutex::default() }
    }

    /// When the serving certificate that is in force expires.
    pub fn serving_expires(&self) -> Option<SystemTime> {
        self.state().present.serving.made.expires()
    }

    /// Polls until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = interval(self.config.reload_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check_now().await;
        }
    }

    /// Looks at the files once, and takes up what has changed.
    pub async fn check_now(self: &Arc<Self>) -> Look {
        let _one = self.looking.lock().await;
        let this = self.clone();
        // Reading blocks, and so does indexing a hundred thousand bindings.
        let looked = tokio::task::spawn_blocking(move || this.look()).await;
        looked.unwrap_or_else(|panicked| {
            tracing::error!(error = %panicked, "a look at the configuration's files failed");
            Look::Moving
        })
    }

    fn look(&self) -> Look {
        self.refresh_tokens();
        let present = self.state().present.clone();
        let next = match Loaded::read(&self.config, &self.shared, Some(&present)) {
            Ok(next) => next,
            Err(errors) => return self.refuse(Errors(errors)),
        };
        let changed = next.changed_from(&present);
        if changed.is_empty() {
            if let Some(errors) = next.held {
                return self.refuse(errors);
            }
            if self.state().failed.take().is_some() {
                tracing::info!("the configuration's files are again what they were");
            }
            return Look::Same;
        }
        // What was half written when it was read may have been understood all the same.
        match Loaded::read(&self.config, &self.shared, Some(&next)) {
            Ok(again) if again.prints() == next.prints() => self.take_up(next, changed),
            _ => Look::Moving,
        }
    }

    /// From now on the cluster's rules are these. Says how many streams were ended for it.
    pub fn set_live(&self, live: Live) -> usize {
        let mut state = self.state();
        state.present.set_live(live);
        self.gateway.swap(state.present.snapshot())
    }

    fn take_up(&self, mut next: Loaded, changed: Vec<&'static str>) -> Look {
        let mut state = self.state();
        // They may have changed since the files were read.
        next.set_live(state.present.live.clone());
        if next.policy.print != state.present.policy.print {
            self.gateway.audit().set_policy(Policy::clone(&next.policy.made));
        }
        next.authn.made.start();
        let ended = self.gateway.swap(next.snapshot());
        tracing::info!(changed = changed.join(", "), streams_ended = ended, "took up changed files");
        for warning in next.warnings().filter(|warning| !state.present.warnings().any(|old| old == *warning))
        {
            tracing::warn!("{warning}");
        }
        self.gateway.metrics().serving_certificate(next.serving.made.expires());
        let (held, failed) = (next.held.take(), state.failed.take());
        *state = State {
            present: next,
            failed: failed.filter(|_| held.is_some()),
            token_failed: state.token_failed.take(),
        };
        drop(state);
        self.gateway.metrics().reload(true);
        if let Some(errors) = held {
            self.refuse(errors);
        }
        Look::Changed(changed)
    }

    fn refuse(&self, errors: Errors) -> Look {
        let mut state = self.state();
        if state.failed.as_ref() != Some(&errors) {
            for error in &errors.0 {
                tracing::error!("changed files cannot be used, the old ones stay in force: {error}");
            }
            self.gateway.metrics().reload(false);
            state.failed = Some(errors.clone());
        }
        Look::Refused(errors)
    }

    /// The gate's own tokens alone are no reason for another snapshot.
    fn refresh_tokens(&self) {
        let present = self.gateway.snapshot();
        let refreshed = present.forward.endpoint().refresh().and_then(|a| Ok(a | present.authn.refresh()?));
        let mut state = self.state();
        match refreshed {
            Ok(true) => tracing::info!("took up a new token of the gate's own"),
            Ok(false) => {}
            Err(problem) if state.token_failed.as_ref() == Some(&problem) => return,
            Err(problem) => {
                tracing::error!(
                    "a token of the gate's own cannot be read again, the old one stays in use: {problem}"
                );
                self.gateway.metrics().reload(false);
                state.token_failed = Some(problem);
                return;
            }
        }
        state.token_failed = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
