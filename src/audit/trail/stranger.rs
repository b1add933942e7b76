//! What is recorded of somebody who did not authenticate.

use super::{CLOSED_EARLY, Inner, PANIC, Phase};
use crate::{
    audit::{
        event::{Level, MicroTime, Stage},
        journal::line::Part,
        policy::Question,
    },
    request::{Object, RequestInfo, Target},
};
use std::time::{Instant, SystemTime};

impl Inner {
    /// The one event of a request that nobody is known to have made.
    pub(super) fn stranger(&mut self, stage: Stage) {
        self.phase = Phase::Done;
        let path = self.uri.path_and_query().map_or(self.uri.path(), |p| p.as_str());
        let info = Target::parse(path).ok().and_then(|target| RequestInfo::parse(&self.method, &target).ok());
        let method = self.method.as_str().to_ascii_lowercase();
        let (verb, object) = match &info {
            Some(info) => (info.attributes().verb, info.attributes().object),
            None => (&*method, Object::Path(self.uri.path())),
        };
        self.verdict = self.audit.policy.load().evaluate(&Question { user: None, verb, object });
        self.count_level();
        if self.verdict.level == Level::None || self.verdict.omit_stages.contains(stage) {
            return;
        }
        let now = Instant::now();
        let ip = self.addresses.nearest();
        let mut recorded = self.audit.strangers.admit(ip, now);
        if recorded {
            let path = path.to_owned();
            self.render(&path, verb, "{}", info.as_ref());
            if stage == Stage::Panic {
                self.told.status = Some(PANIC.to_vec());
            } else if self.told.status.is_none() {
                self.told.status = Some(CLOSED_EARLY.to_vec());
            }
            let at = MicroTime::at(SystemTime::now());
            let audit = &self.audit;
            recorded =
                self.write(stage, at, Part::Only, |line| audit.journal.append_stranger(line, audit.max_size));
        }
        if !recorded {
            self.audit.metrics.suppressed.inc();
            self.audit.strangers.suppress(ip, now);
        }
    }
}
