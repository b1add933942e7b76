//! What is recorded although the policy does not ask for it.

use super::{LAST_EVENT, Phase, Trail};
use crate::{
    audit::event::{Level, Stage},
    identity::User,
    request::{RequestInfo, Target},
};

impl Trail {
    /// Records the request's end even where the policy would not, at level Metadata then. What the caller gets does not depend on it:
    /// no body is read for it, and nothing waits or fails when there is no place for the event.
    pub fn insist(&mut self, user: &User) {
        let this = &mut *self.0;
        if this.phase != Phase::Begun || this.code.is_some() || this.insisted {
            return;
        }
        let omitted = this.verdict.omit_stages;
        this.verdict.omit_stages = omitted.without(Stage::ResponseComplete).without(Stage::Panic);
        if this.verdict.level != Level::None {
            return;
        }
        let Ok(target) = Target::parse(this.uri.path_and_query().map_or(this.uri.path(), |p| p.as_str()))
        else {
            return;
        };
        let Ok(info) = RequestInfo::parse(&this.method, &target) else { return };
        this.insisted = true;
        this.verdict.level = Level::Metadata;
        this.describe(user, &info, target.raw());
        let size = this.head.len() + this.annotations.size() + LAST_EVENT;
        this.place = this.audit.journal.reserve(None, size).is_ok().then_some(size);
    }
}
