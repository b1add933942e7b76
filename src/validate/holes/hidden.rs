//! Options of a DELETE that stand in its query while its body says something else: `?dryRun=All` with the body `{}` deletes.

use crate::{
    codec::{document::Document, tape::Tape},
    request::query,
};

const OPTIONS: [&str; 7] = [
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
    "uid",
    "resourceVersion",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
];

/// Whether a query has any of the options.
pub(super) fn says(query: &str) -> bool {
    query::pairs(query).any(|(key, _)| OPTIONS.contains(&&*key))
}

/// The first option of the query that the body does not say as well. What cannot be read says nothing.
pub(super) fn find(query: &str, body: &Document<'_>, collection: bool) -> Option<&'static str> {
    let body = body.tape().ok();
    let mut seen = [false; OPTIONS.len()];
    query::pairs(query).find_map(|(key, value)| {
        let at = OPTIONS.iter().position(|option| *option == key)?;
        let (option, seen) = (OPTIONS.get(at)?, seen.get_mut(at)?);
        // Only the first value of a parameter counts, but each of `dryRun`.
        let counts = !std::mem::replace(seen, true) || *option == "dryRun";
        let same = || body.is_some_and(|body| says_the_same(body, option, &value));
        (counts && asks(option, &value, collection) && !same()).then_some(*option)
    })
}

/// Whether the option would change anything if it counted.
fn asks(option: &str, value: &str, collection: bool) -> bool {
    match option {
        "uid" => !value.is_empty(),
        // A collection's is the list's, too.
        "resourceVersion" => !value.is_empty() && !collection,
        "ignoreStoreReadErrorWithClusterBreakingPotential" => super::query::truth(value),
        _ => true,
    }
}

fn says_the_same(body: &Tape<'_>, option: &str, value: &str) -> bool {
    // Of two members of one name the last counts.
    let member = |at, name| body.get(at, name).last();
    match option {
        "dryRun" => member(0, option)
            .is_some_and(|list| body.elements(list).any(|at| body.is_text(at) && body.string(at) == value)),
        "propagationPolicy" => {
            member(0, option).is_some_and(|at| body.is_text(at) && body.string(at) == value)
        }
        "uid" | "resourceVersion" => member(0, "preconditions")
            .and_then(|at| body.get(at, option).last())
            .is_some_and(|at| body.is_text(at) && body.string(at) == value),
        "gracePeriodSeconds" => {
            let number = |text: &str| text.parse::<i64>().ok();
            member(0, option)
                .and_then(|at| number(body.raw(at)))
                .is_some_and(|said| number(value) == Some(said))
        }
        _ => {
            let asked = if super::query::truth(value) { "true" } else { "false" };
            member(0, option).is_some_and(|at| body.raw(at) == asked)
        }
    }
}
