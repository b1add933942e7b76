//! `gatelog explain`: may they, and why or why not.

use super::{
    Outcome,
    asked::{Format, Question, Source, object, observed, of_source, plain, sentence},
    print, usage,
};
use crate::authz::{
    Authz,
    explain::{Explained, Question as Posed, Rule, Verdict},
};
use std::{fmt::Write, process::ExitCode};

/// Say whether somebody may, and by which rule, or what came near
///
/// Decides as the gate would: by files, or by asking a gate that runs. The API server behind it is not asked. Exits with 0 when it
/// is allowed, with 1 when it is denied or not all rules are known, with 69 when no gate answers at the socket. exec, attach and
/// port-forward take create besides their verb; so do upgrades through nodes/proxy, which are not asked about here.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// The user; system:serviceaccount:NAMESPACE:NAME for a service account
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// A group of the user; may be given more than once. Those that kube-apiserver adds are added: system:authenticated, and
    /// those of a service account unless others are given
    #[arg(long = "as-group", value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    question: Question,
    /// How to tell
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

pub(super) fn run(args: Args) -> Outcome {
    let (asked, notes) = args.question.asked().map_err(usage)?;
    if args.user.is_empty() {
        return Err(usage(anyhow::anyhow!("the user name is empty")));
    }
    let question = Posed { user: args.user, groups: args.groups, ..asked.question() };
    let explained: Explained = match args.source.ask("explain", &question, Authz::explain)? {
        Ok(explained) => explained,
        Err(code) => return Ok(code),
    };
    for note in notes {
        eprintln!("gatelog: {note}");
    }
    match args.output {
        Format::Text => print(&text(&explained))?,
        Format::Json => print(&super::pretty(&explained)?)?,
    }
    Ok(if explained.verdict.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(explained: &Explained) -> String {
    let (name, asked) = (plain(&explained.user), sentence(&explained.asked));
    let verdict = &explained.verdict;
    let unknown = verdict.denied.as_ref().is_some_and(|denied| denied.unknown.is_some());
    let mut text = match (verdict.allowed, unknown) {
        (true, _) => format!("allowed: {name} may {asked}\n"),
        (false, false) => format!("denied: {name} may not {asked}\n"),
        (false, true) => format!("not known: {name} may not {asked} by the rules that are known\n"),
    };
    let verb = explained.asked.verb();
    reasons(verdict, verb, &mut text);
    if let Some(rehearsed) = &explained.shadow {
        text.push_str(if rehearsed.allowed { "shadow rules: allowed\n" } else { "shadow rules: denied\n" });
        reasons(rehearsed, verb, &mut text);
    }
    text.push_str(observed(explained.mode, explained.enforced));
    text
}

/// A line each, indented.
fn reasons(verdict: &Verdict, verb: &str, text: &mut String) {
    let mut line = |line: &str| {
        if !line.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {line}");
        }
    };
    if verdict.masters {
        line("members of system:masters may do everything");
    }
    for (i, grant) in verdict.by.iter().enumerate() {
        let besides = if i == 0 { "" } else { "create, which it takes besides: " };
        let (binding, role, subject) = (object(&grant.binding), object(&grant.role), object(&grant.subject));
        line(&format!("{besides}{binding} gives {role} to {subject}{}", of_source(grant.source)));
        if let (Some(index), Some(rule)) = (grant.index, &grant.rule) {
            line(&format!("rules[{index}]: {}", rule_text(rule)));
        }
    }
    let Some(denied) = &verdict.denied else { return };
    if denied.refused_verb != verb {
        line("opening a stream takes create besides");
    }
    for near in &denied.near_misses {
        line(&(near.text.clone() + &of_source(near.source)));
    }
    if denied.near_misses.is_empty() {
        line(&denied.nearest);
    }
    line(&denied.missing);
    line(&denied.others);
    line(denied.unknown.as_deref().unwrap_or_default());
}

/// `verbs [get, list], apiGroups [""], resources [pods]`.
fn rule_text(rule: &Rule) -> String {
    let list = |list: &[String]| list.iter().map(|word| plain(word)).collect::<Vec<_>>().join(", ");
    let fields = [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.resource_names),
        ("nonResourceURLs", &rule.non_resource_urls),
    ];
    let said = fields.iter().filter(|(_, words)| !words.is_empty());
    said.map(|(key, words)| format!("{key} [{}]", list(words))).collect::<Vec<_>>().join(", ")
}
