//! Why a request gets no answer from the upstream, and the one table of what the caller is told instead.

use crate::{
    audit::{Trail, Unkept},
    authn::Unauthenticated,
    authz::{Refused, selfreview::Unanswered},
    body::BadBody,
    forward::NoAnswer,
    limits::Exceeded,
    request::BadRequest,
    status::Status,
    streams::Reason,
    telemetry::metrics::{Authentication, Authorization, Metrics},
    validate::Invalid,
};
use http::HeaderValue;
use tokio::time::error::Elapsed;

/// Everything that can end a request at the gate. Its text is for the log; [`Failure::status`] is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not understood in exactly one way: 400.
    #[error("bad request: {}", .0.message.split_once(" - ").map_or(&*.0.message, |(what, _query)| what))]
    BadRequest(#[from] BadRequest),
    /// More header lines than allowed: 431.
    #[error("more than {0} header lines")]
    TooManyHeaders(usize),
    /// A protocol nobody switches to: 400.
    #[error("unsupported upgrade to {0:?}")]
    Upgrade(HeaderValue),
    /// Nobody vouches for the caller: 401, or 429 after too many attempts.
    #[error("not authenticated: {}", .0.why)]
    Unauthenticated(Unauthenticated),
    /// Not allowed: 403 (or the impersonation step's 400).
    #[error("refused: {}", .0.whole)]
    Refused(Box<Refused>),
    /// Not well formed: 400, 404, 405, 406, 413, 415 or 422.
    #[error("invalid: {0}")]
    Invalid(#[from] Box<Invalid>),
    /// A review of oneself that cannot be answered: 400, 406, 413, 415, 500 or 503.
    #[error("self-review: {0}")]
    Review(Box<Unanswered>),
    /// Too much under way: 429.
    #[error("limited: {0}")]
    Exceeded(#[from] Exceeded),
    /// The body cannot be passed on: 413, 429, 400 or 504.
    #[error("request body: {0}")]
    Body(#[from] BadBody),
    /// The upstream's answer, which must be read whole, cannot be: 429, 503 or 504.
    #[error("the upstream's answer: {0}")]
    Answer(BadBody),
    /// The record cannot be kept: 503.
    #[error("{0}")]
    Unkept(#[from] Unkept),
    /// The request's time is up: 504.
    #[error("the request's time was up")]
    Late,
    /// Ended by name before the upstream had answered: 503.
    #[error("ended before it was answered: {0}")]
    Ended(Reason),
    /// No usable answer from the upstream: 503, 502 or 500.
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
}

impl From<Elapsed> for Failure {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        Self::Review(Box::new(unanswered))
    }
}

impl From<Unauthenticated> for Failure {
    fn from(unauthenticated: Unauthenticated) -> Self {
        Self::Unauthenticated(unauthenticated)
    }
}

/// A defect of ours: the request is over, the connection goes on.
pub(super) fn panicked() -> Status {
    Status::internal("This request caused gatelog to panic. Look in the logs for details.")
}

impl Failure {
    /// What the caller is told; no more than kube-apiserver would tell, but for what a refusal explains.
    pub fn status(&self, audit_id: &HeaderValue) -> Status {
        match self {
            Self::BadRequest(bad) if bad.code >= 500 => {
                let message = bad.message.clone();
                Status { code: bad.code, message, ..Status::internal(bad.message.clone()) }
            }
            Self::BadRequest(bad) => Status::bad_request(bad.message.clone()),
            Self::TooManyHeaders(_) => Status::header_too_large(),
            Self::Upgrade(protocol) => Status::bad_request(format!(
                "unable to upgrade: the Upgrade header is {protocol:?}, expected websocket or SPDY/3.1"
            )),
            Self::Unauthenticated(who) if !who.limited => Status::unauthorized(),
            Self::Refused(refused) => refused.told(audit_id.to_str().unwrap_or_default()),
            Self::Invalid(invalid) => invalid.status.clone(),
            Self::Review(unanswered) => unanswered.status.clone(),
            Self::Unauthenticated(_)
            | Self::Exceeded(_)
            | Self::Body(BadBody::NoBudget)
            | Self::Answer(BadBody::NoBudget) => {
                Status::too_many_requests("Too many requests, please try again later.", 1)
            }
            Self::Body(BadBody::TooLarge(limit))
            | Self::NoAnswer(NoAnswer::Body(BadBody::TooLarge(limit))) => Status::too_large(*limit),
            Self::Body(BadBody::Late) | Self::Answer(BadBody::Late | BadBody::Idle(_)) | Self::Late => {
                Status::timeout()
            }
            Self::Answer(_) => {
                Status::unavailable("the upstream API server broke off in its answer", Some(1))
            }
            Self::Body(bad) | Self::NoAnswer(NoAnswer::Body(bad)) => Status::bad_request(bad.to_string()),
            Self::Unkept(_) => Status::unavailable(
                format!(
                    "the audit record cannot be kept at the moment, so the request was not forwarded (audit id {})",
                    audit_id.to_str().unwrap_or_default()
                ),
                None,
            ),
            // Which rule is missing is for a refusal to tell: the next attempt's.
            Self::Ended(reason) => {
                Status::unavailable(reason.split(": ").next().unwrap_or_default(), Some(1))
            }
            Self::NoAnswer(NoAnswer::Connect { .. }) => {
                Status::unavailable("the upstream API server cannot be reached", Some(1))
            }
            Self::NoAnswer(NoAnswer::Broken(_)) => Status::unavailable(
                "the upstream API server broke off before it answered; the request may have been carried out",
                None,
            ),
            Self::NoAnswer(answer @ (NoAnswer::NotUpgraded(_) | NoAnswer::WrongProtocol { .. })) => {
                Status::internal(answer.to_string())
            }
            Self::NoAnswer(NoAnswer::Identity(_)) => {
                Status::internal("an identity header would have been forwarded; nothing was sent")
            }
        }
    }

    /// What the record and the metrics say beyond the status.
    pub(super) fn record(&self, trail: &mut Trail, metrics: &Metrics) {
        match self {
            Self::Unauthenticated(unauthenticated) => {
                trail.attempted(&unauthenticated.attempted);
                metrics.authentication(match unauthenticated.rejected {
                    true => Authentication::Error,
                    false => Authentication::Failure,
                });
            }
            Self::Refused(refused) => {
                if let Some(user) = &refused.impersonated {
                    trail.impersonated(user);
                }
                match &refused.impersonation {
                    // kube-apiserver writes no decision then.
                    Some(header) => {
                        trail.annotate("gatelog.dev/impersonation-refused", header.clone());
                        if !refused.reason.is_empty() {
                            trail.annotate("gatelog.dev/impersonation-reason", refused.reason.clone());
                        }
                    }
                    None => trail.decided(false, refused.reason.clone()),
                }
                metrics.authorization(Authorization::NoOpinion);
            }
            Self::Invalid(invalid) => {
                trail.annotate("gatelog.dev/validation", format!("refused: {}", invalid.name()));
            }
            Self::Exceeded(exceeded) => metrics.limited(exceeded.label()),
            Self::Body(BadBody::NoBudget) | Self::Answer(BadBody::NoBudget) => {
                metrics.limited("buffered-bodies")
            }
            Self::Ended(reason) => trail.annotate("gatelog.dev/end", reason.to_string()),
            Self::NoAnswer(answer) => metrics.upstream_error(answer.label()),
            _ => {}
        }
    }

    /// Response warnings besides the status.
    pub(super) fn warning(&self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated(unauthenticated) => unauthenticated.warning,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_ended_early_tells_its_caller_nothing_of_the_rules() {
        let ended =
            Failure::Ended("no longer allowed: Role d/r, bound by RoleBinding d/b, allows get".into());
        assert_eq!(ended.status(&HeaderValue::from_static("7")).message, "no longer allowed");
        assert!(ended.to_string().ends_with("allows get"));
        let ended = Failure::Ended("the gate is shutting down".into());
        assert_eq!(ended.status(&HeaderValue::from_static("7")).message, "the gate is shutting down");
    }
}
