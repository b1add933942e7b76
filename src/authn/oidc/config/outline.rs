//! An AuthenticationConfiguration in words, for a person who checks one.

use super::{Anonymous, AuthenticationConfiguration, Issuer, TextMapping};

/// What such a file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Each issuer, and who may come without credentials.
    pub lines: Vec<String>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

/// Reads `text` as the gate would; the error is everything that is wrong with it, a line each. Whether an issuer clashes with one
/// of service accounts, only the gate's own configuration can tell.
pub fn outline(text: &str) -> Result<Outline, Vec<String>> {
    let AuthenticationConfiguration { issuers, anonymous, warnings } =
        AuthenticationConfiguration::parse(text, &[])?;
    let mut lines: Vec<String> = issuers.iter().map(line).collect();
    lines.extend(anonymous.map(|Anonymous { enabled, paths }| match (enabled, &paths[..]) {
        (false, _) => "anonymous: off".to_owned(),
        (true, []) => "anonymous: on (everywhere)".to_owned(),
        (true, paths) => format!("anonymous: on ({})", paths.join(", ")),
    }));
    if lines.is_empty() {
        lines.push("no issuers".to_owned());
    }
    Ok(Outline { lines, warnings })
}

fn line(issuer: &Issuer) -> String {
    let mut said = vec![
        format!("for {}", issuer.audiences.join(" or ")),
        format!("user name from {}", source(&issuer.username)),
    ];
    said.extend(issuer.groups.iter().map(|groups| format!("groups from {}", source(groups))));
    said.extend(issuer.uid.iter().map(|uid| format!("uid from {}", source(uid))));
    said.extend(issuer.extra.iter().map(|(key, _)| format!("extra {key}")));
    let rules = [(issuer.claim_rules.len(), "claim"), (issuer.user_rules.len(), "user")];
    said.extend(rules.map(|(count, of)| match count {
        1 => format!("1 {of} rule"),
        count => format!("{count} {of} rules"),
    }));
    format!("issuer {}: {}", issuer.url, said.join("; "))
}

fn source(mapping: &TextMapping) -> String {
    match mapping {
        TextMapping::Claim { claim, prefix } if prefix.is_empty() => format!("claim {claim}"),
        TextMapping::Claim { claim, prefix } => format!("claim {claim} behind {prefix:?}"),
        TextMapping::Expression(_) => "an expression".to_owned(),
    }
}
