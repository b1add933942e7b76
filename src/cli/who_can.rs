//! `gatelog who-can`: everybody who may.

use super::{
    Outcome,
    asked::{Format, Question, Source, object, observed, row},
    print, usage,
};
use crate::authz::{
    Authz,
    explain::{Allowed, Grant, Named},
};
use std::{collections::BTreeSet, fmt::Write, process::ExitCode};

/// List everybody who may, with the binding and the role that say so
///
/// Users, groups and service accounts as bindings name them; who is in a group, the rules do not know. exec, attach and
/// port-forward take create besides their verb: whoever has the two only by being in two groups is not listed. Exits with 1 when
/// not all rules are known, with 69 when no gate answers at the socket.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    question: Question,
    /// How to tell
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

pub(super) fn run(args: Args) -> Outcome {
    let (asked, notes) = args.question.asked().map_err(usage)?;
    let allowed: Allowed = match args.source.ask("who-can", &asked.question(), Authz::who_can)? {
        Ok(allowed) => allowed,
        Err(code) => return Ok(code),
    };
    for note in notes {
        eprintln!("gatelog: {note}");
    }
    match args.output {
        Format::Text => print(&text(&allowed))?,
        Format::Json => print(&super::pretty(&allowed)?)?,
    }
    Ok(if allowed.unknown.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(allowed: &Allowed) -> String {
    let mut text = table("", allowed.may.iter());
    // Writing to a String cannot fail.
    for always in &allowed.always {
        let _ = writeln!(text, "members of {} always may", object(always).trim_start_matches("Group "));
    }
    if let Some(rehearsed) = &allowed.shadow {
        text.push_str(&differences(&allowed.may, rehearsed));
    }
    if let Some(why) = &allowed.unknown {
        let _ = writeln!(text, "not all rules are known, there may be more: {why}");
    }
    text.push_str(observed(allowed.mode, allowed.enforced));
    text
}

fn table<'a>(before: &str, grants: impl Iterator<Item = &'a Grant>) -> String {
    let rows: Vec<[String; 3]> = grants.map(row).collect();
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
    let (first, second) = (width(0).unwrap_or_default(), width(1).unwrap_or_default());
    let mut text = String::new();
    for [subject, binding, role] in &rows {
        let _ = writeln!(text, "{before}{subject:first$}  {binding:second$}  {role}");
    }
    text
}

/// Who could no longer, and who could as well, by the rules that are rehearsed.
fn differences(now: &[Grant], rehearsed: &[Grant]) -> String {
    let subjects =
        |grants: &[Grant]| -> BTreeSet<Named> { grants.iter().map(|g| g.subject.clone()).collect() };
    let (these, those) = (subjects(now), subjects(rehearsed));
    if these == those {
        return "by the shadow rules, the same may\n".to_owned();
    }
    let lost = now.iter().filter(|grant| !those.contains(&grant.subject));
    let won = rehearsed.iter().filter(|grant| !these.contains(&grant.subject));
    format!("the shadow rules take (-) and give (+)\n{}{}", table("- ", lost), table("+ ", won))
}
