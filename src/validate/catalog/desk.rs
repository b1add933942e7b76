//! Questions about one group's version, after a miss: one at a time for each, and not too many in all.

use super::source::Source;
use crate::cluster::discovery::Version;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// What the cluster said: None, there is no such version.
type Said = Arc<Result<Option<Version>, String>>;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) said: Said,
    /// Asked for after the moment that counts; else it may be out of date.
    pub(super) fresh: bool,
}

/// Where questions are handed in.
#[derive(Debug, Default)]
pub(super) struct Desk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// By group and version.
    under_way: HashMap<(Box<str>, Box<str>), Flight>,
    /// When the bucket of questions will be full again.
    full: Instant,
}

#[derive(Debug, Clone)]
struct Flight {
    began: Instant,
    said: watch::Receiver<Option<Said>>,
}

/// Questions at once, and time for each further one.
const BURST: u32 = 8;
const EACH: Duration = Duration::from_millis(250);

impl Default for State {
    fn default() -> Self {
        Self { under_way: HashMap::new(), full: Instant::now() }
    }
}

impl Desk {
    /// Asks, or joins who has asked already; None: too many questions.
    pub(super) async fn ask(
        &self,
        source: &Arc<dyn Source>,
        group: &str,
        version: &str,
        since: Instant,
    ) -> Option<Reply> {
        let mut flight = self.board(source, group, version)?;
        let fresh = flight.began >= since;
        let said = flight.said.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(Reply { said, fresh })
    }

    fn board(&self, source: &Arc<dyn Source>, group: &str, version: &str) -> Option<Flight> {
        let key = (Box::from(group), Box::from(version));
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = state.under_way.get(&key) {
            return Some(flight.clone());
        }
        let began = Instant::now();
        let full = state.full.max(began) + EACH;
        if full - began > EACH * BURST {
            return None;
        }
        state.full = full;
        let (tell, said) = watch::channel(None);
        let flight = Flight { began, said };
        state.under_way.insert(key.clone(), flight.clone());
        drop(state);
        let landing = Landing { desk: self.0.clone(), key };
        let source = source.clone();
        // Who asked first may go away; the others still wait.
        tokio::spawn(async move {
            let said = source.group_version(&landing.key.0, &landing.key.1).await;
            drop(landing);
            tell.send_replace(Some(Arc::new(said)));
        });
        Some(flight)
    }
}

/// Whatever becomes of the question, it is no longer under way.
struct Landing {
    desk: Arc<Mutex<State>>,
    key: (Box<str>, Box<str>),
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).under_way.remove(&self.key);
    }
}
