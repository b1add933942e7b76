//! Rules that are only rehearsed: what they would have said, beside what was said.
//!
//! The candidate is asked what the rules that count were asked, after them. Its answer is for the record and decides nothing; as
//! long as both say the same it costs a decision and no memory.

use super::{Authz, Denial, Reason, Who, header_of, needs_create};
use crate::{
    identity::{Impersonation, User},
    request::{Attributes, RequestInfo},
};

/// What the candidate says to a decision of the rules that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rehearsed {
    /// It was not asked: there is none, nothing was decided, or the rules that count are not known.
    #[default]
    Unasked,
    /// The same.
    Same {
        /// Both allow it, or both do not.
        allowed: bool,
    },
    /// It is allowed, and the candidate would refuse it: what came nearest.
    WouldRefuse(String),
    /// It is not allowed, and the candidate would allow it: by what.
    WouldAllow(String),
}

impl Rehearsed {
    /// Whether the rules that count allow it, and whether the candidate does.
    pub fn outcome(&self) -> Option<(bool, bool)> {
        match self {
            Self::Unasked => None,
            Self::Same { allowed } => Some((*allowed, *allowed)),
            Self::WouldRefuse(_) => Some((true, false)),
            Self::WouldAllow(_) => Some((false, true)),
        }
    }

    /// `would be refused: …` or `would be allowed: …`, when the two differ.
    pub fn difference(&self) -> Option<String> {
        match self {
            Self::Unasked | Self::Same { .. } => None,
            Self::WouldRefuse(why) => Some(format!("would be refused: {why}")),
            Self::WouldAllow(why) => Some(format!("would be allowed: {why}")),
        }
    }
}

impl Authz {
    /// What the candidate says to a request that was decided so.
    pub(super) fn rehearse(
        &self,
        user: &User,
        info: &RequestInfo,
        upgrade: bool,
        decided: &Result<Reason, (Attributes<'_>, Denial)>,
    ) -> Rehearsed {
        let Some(candidate) = &self.shadow else { return Rehearsed::Unasked };
        let allowed = match decided {
            Ok(_) => true,
            Err((_, why)) if why.unknown.is_some() => return Rehearsed::Unasked,
            Err(_) => false,
        };
        match (allowed, candidate.grants(user, info, upgrade)) {
            (true, None) => match candidate.decide(user, info, upgrade) {
                Ok(_) => Rehearsed::Same { allowed },
                Err((_, why)) => Rehearsed::WouldRefuse(why.to_string()),
            },
            (false, Some(reason)) => Rehearsed::WouldAllow(reason.to_string()),
            (allowed, _) => Rehearsed::Same { allowed },
        }
    }

    /// The same for impersonation: all of its checks are one decision. `refused` is the one that was not allowed, if one was not.
    pub(super) fn rehearse_impersonation(
        &self,
        proven: &User,
        wanted: &Impersonation,
        refused: Option<(Attributes<'_>, &Denial)>,
    ) -> Rehearsed {
        let Some(candidate) = &self.shadow else { return Rehearsed::Unasked };
        let missing = || wanted.checks().find(|check| candidate.reason(proven, *check).is_none());
        match refused {
            None => match missing().map(|check| (check, candidate.allows(proven, check))) {
                Some((check, Err(why))) => Rehearsed::WouldRefuse(format!("{}: {why}", header_of(check))),
                _ => Rehearsed::Same { allowed: true },
            },
            Some((_, why)) if why.unknown.is_some() => Rehearsed::Unasked,
            Some((check, _)) => match (missing(), candidate.reason(proven, check)) {
                (None, Some(reason)) => Rehearsed::WouldAllow(format!("{}: {reason}", header_of(check))),
                _ => Rehearsed::Same { allowed: false },
            },
        }
    }

    /// [`Authz::decide`] without a word on why not.
    fn grants(&self, user: &User, info: &RequestInfo, upgrade: bool) -> Option<Reason> {
        let question = info.attributes();
        let reason = self.reason(user, question)?;
        let also = needs_create(question, upgrade).then_some(Attributes { verb: "create", ..question });
        also.is_none_or(|also| self.reason(user, also).is_some()).then_some(reason)
    }
}

impl Who {
    /// What the candidate says to the impersonation.
    pub fn rehearsed(&self) -> &Rehearsed {
        &self.rehearsed
    }
}
