//! The options that a query gives each verb: read, and found right or wrong as kube-apiserver finds them.

use super::{
    answer::{Cause, Failure},
    route::Query,
};
use serde_json::json;

/// The group of all options.
const META: &str = "meta.k8s.io";

fn forbidden(field: &str, why: &str) -> Cause {
    Cause { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
}

fn refuse(options: &str, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(META, options, "", causes)) }
}

/// `dryRun`: whether it is one.
fn dry_run(values: &[&str], causes: &mut Vec<Cause>) -> bool {
    if values.iter().any(|v| *v != "All") {
        let mut cause = Cause::unsupported("dryRun", "", &["All"]);
        cause.message = cause.message.replacen("\"\"", &json!(values).to_string(), 1);
        causes.push(cause);
    }
    !values.is_empty()
}

/// What a create, an update or a patch asks for: whether it is to be a dry run.
pub(super) fn write(options: &str, query: &Query, apply: bool) -> Result<bool, Failure> {
    let mut causes = Vec::new();
    let manager = query.text("fieldManager");
    if options == "PatchOptions" {
        if apply && manager.is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        } else if !apply && query.get("force").is_some() {
            causes.push(forbidden("force", "may not be specified for non-apply patch"));
        }
    }
    if manager.len() > 128 {
        let message = "Too long: may not be more than 128 bytes".to_owned();
        causes.push(Cause { reason: "FieldValueTooLong", field: "fieldManager".into(), message });
    }
    if let Some((at, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        causes.push(Cause::invalid("fieldManager", &format!("{manager:?}"), &why));
    }
    let values: Vec<&str> = query.all("dryRun").collect();
    let dry = dry_run(&values, &mut causes);
    let known = ["", "Ignore", "Strict", "Warn"];
    let validation = query.text("fieldValidation");
    if !known.contains(&validation) {
        causes.push(Cause::unsupported("fieldValidation", validation, &known));
    }
    refuse(options, &causes)?;
    Ok(dry)
}

/// `DeleteOptions`: the dry runs that are asked for, the policy, and whether dependents are to be orphans.
pub(super) fn delete(dry: &[&str], policy: &str, orphan: bool) -> Result<bool, Failure> {
    let mut causes = Vec::new();
    if orphan && !policy.is_empty() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        causes.push(Cause::invalid("propagationPolicy", &format!("{policy:?}"), why));
    }
    let known = ["Foreground", "Background", "Orphan", "nil"];
    if !policy.is_empty() && !known.iter().take(3).any(|k| *k == policy) {
        causes.push(Cause::unsupported("propagationPolicy", policy, &known));
    }
    let dry = dry_run(dry, &mut causes);
    refuse("DeleteOptions", &causes)?;
    Ok(dry)
}

/// A whole number of the query; None: it is not there.
pub(super) fn number(query: &Query, key: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = query.get(key).filter(|t| !t.is_empty()) else { return Ok(None) };
    let why = |e: &std::num::ParseIntError| match e.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    text.parse()
        .map(Some)
        .map_err(|e| Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: {}", why(&e))))
}

/// What a list, a watch or a deletecollection asks for, as far as its options go together.
pub(super) fn list(query: &Query, watch: bool) -> Result<(), Failure> {
    for key in ["limit", "timeoutSeconds"] {
        number(query, key)?;
    }
    let version = query.text("resourceVersion");
    let matching = query.text("resourceVersionMatch");
    let initial = query.get("sendInitialEvents").filter(|v| !v.is_empty());
    let mut causes = Vec::new();
    let field = "resourceVersionMatch";
    if watch {
        match (initial.is_some(), matching) {
            (false, "") => {}
            (true, "NotOlderThan") => {}
            (true, _) => {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                causes.push(forbidden(field, why));
            }
            (false, _) => {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(forbidden(field, why));
            }
        }
        if !matches!(matching, "" | "NotOlderThan") {
            causes.push(Cause::unsupported(field, matching, &["NotOlderThan"]));
        }
        return refuse("ListOptions", &causes);
    }
    if initial.is_some() {
        causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    if !matching.is_empty() {
        if version.is_empty() {
            causes.push(forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !query.text("continue").is_empty() {
            causes.push(forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(Cause::unsupported(field, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(forbidden(field, why));
        }
    }
    refuse("ListOptions", &causes)
}

/// `resourceVersion` as a number; the error is Go's text.
pub(super) fn version(query: &Query) -> Result<u64, String> {
    match query.text("resourceVersion") {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            )
        }),
    }
}

/// `timeout` of requests that are not answered at length.
pub(super) fn timeout(query: &Query) -> Result<(), Failure> {
    let Some(text) = query.get("timeout").filter(|t| !t.is_empty()) else { return Ok(()) };
    duration(text).map_err(|why| {
        Failure::bad_request(format!("invalid timeout specified in the request URL - time: {why}"))
    })
}

/// Whether this is one of Go's durations, such as `1m30s`.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {text:?}"));
        }
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return Err(format!("unknown unit {unit:?} in duration {text:?}"));
        }
        rest = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_writes() {
        #[rustfmt::skip]
        let rows = [
            ("CreateOptions", "dryRun=All&dryRun=All", Ok(true)),
            ("CreateOptions", "", Ok(false)),
            ("CreateOptions", "dryRun=All&dryRun=x", Err(r#"dryRun: Unsupported value: ["All","x"]: supported values: "All""#)),
            ("UpdateOptions", "dryRun=", Err(r#"dryRun: Unsupported value: [""]: supported values: "All""#)),
            ("UpdateOptions", "fieldValidation=strict", Err(r#"fieldValidation: Unsupported value: "strict": supported values: "", "Ignore", "Strict", "Warn""#)),
            ("CreateOptions", "fieldManager=a%0Ab", Err(r#"fieldManager: Invalid value: "a\nb": invalid character U+000A (at position 1)"#)),
            ("PatchOptions", "force=true", Err("force: Forbidden: may not be specified for non-apply patch")),
        ];
        for (options, query, expected) in rows {
            let found = write(options, &Query::parse(query), false).map_err(|f| f.message);
            let expected =
                expected.map_err(|why: &str| format!("{options}.meta.k8s.io \"\" is invalid: {why}"));
            assert_eq!(found, expected, "{query}");
        }
        let apply = write("PatchOptions", &Query::default(), true).unwrap_err();
        assert!(apply.message.ends_with("fieldManager: Required value: is required for apply patch"));
    }

    #[test]
    fn options_of_lists() {
        let rows = [
            ("limit=1&timeoutSeconds=5", false, 0),
            ("limit=x", false, 400),
            ("timeoutSeconds=1.5", true, 400),
            ("resourceVersionMatch=Exact", false, 422),
            ("resourceVersion=0&resourceVersionMatch=Exact", false, 422),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", false, 0),
            ("sendInitialEvents=true", false, 422),
            ("sendInitialEvents=true", true, 422),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, 0),
        ];
        for (query, watch, code) in rows {
            let found = list(&Query::parse(query), watch).err().map_or(0, |f| f.code);
            assert_eq!(found, code, "{query} {watch}");
        }
    }

    #[test]
    fn timeouts() {
        let rows = [
            ("1m30s", ""),
            ("0", ""),
            ("-5s", ""),
            ("1.5h", ""),
            ("1", "missing unit in duration \"1\""),
            ("x", "invalid duration \"x\""),
            ("1x", "unknown unit \"x\" in duration \"1x\""),
            ("", ""),
        ];
        for (text, why) in rows {
            let found = timeout(&Query::parse(&format!("timeout={text}"))).err().map(|f| f.message);
            let expected = format!("invalid timeout specified in the request URL - time: {why}");
            assert_eq!(found, (!why.is_empty()).then_some(expected), "{text}");
        }
    }
}
