//! Every function an expression may call, with its types: those that Kubernetes' base environment declares
//! (`k8s.io/apiserver pkg/cel/environment`). `quantity` and `semver` are left out, so they do not compile here.

use super::types::Type;
use std::{collections::HashMap, sync::LazyLock};

/// One way to call a function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// Called as `x.f()`; `x` is the first of `args`.
    pub(super) method: bool,
    pub(super) args: Vec<Type>,
    pub(super) result: Type,
    /// How many parameters, numbered from 0.
    pub(super) params: u32,
}

/// The ways to call `name`; None: there is no such function.
pub(super) fn find(name: &str) -> Option<&'static [Signature]> {
    FUNCTIONS.get(name).map(Vec::as_slice)
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let read =
        |ways: &str| ways.split("; ").flat_map(each).filter_map(|way| Reader(&way).signature()).collect();
    DECLARED.iter().map(|(name, ways)| (*name, read(ways))).collect()
});

/// The user of a rule.
pub(super) const USER: Type = Type::Named("kubernetes.UserInfo");

/// The fields of [`USER`].
pub(super) fn user_field(name: &str) -> Option<Type> {
    match name {
        "username" | "uid" => Some(Type::String),
        "groups" => Some(Type::list(Type::String)),
        "extra" => Some(Type::map(Type::String, Type::list(Type::String))),
        _ => None,
    }
}

/// Types that have names and no syntax of their own.
const NAMED: [&str; 5] = ["net.IP", "net.CIDR", "kubernetes.URL", "kubernetes.NamedFormat", "error"];

/// What `@ordered`, `@number` and `@summable` stand for: a signature each.
const ORDERED: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
const NUMBER: [&str; 3] = ["int", "uint", "double"];
const SUMMABLE: [&str; 4] = ["int", "uint", "double", "duration"];

/// `(types) result` is called as `f(…)`, `type.(types) result` as `x.f(…)`; capital letters are parameters.
const DECLARED: &[(&str, &str)] = &[
    // Operators.
    ("_?_:_", "(bool, A, A) A"),
    ("_&&_", "(bool, bool) bool"),
    ("_||_", "(bool, bool) bool"),
    ("!_", "(bool) bool"),
    ("-_", "(int) int; (double) double"),
    ("_==_", "(A, A) bool"),
    ("_!=_", "(A, A) bool"),
    ("_<_", COMPARED),
    ("_<=_", COMPARED),
    ("_>_", COMPARED),
    ("_>=_", COMPARED),
    (
        "_+_",
        "(@number, @number) @number; (string, string) string; (bytes, bytes) bytes; (list(A), list(A)) list(A); \
         (duration, duration) duration; (duration, timestamp) timestamp; (timestamp, duration) timestamp",
    ),
    (
        "_-_",
        "(@number, @number) @number; (duration, duration) duration; (timestamp, duration) timestamp; \
         (timestamp, timestamp) duration",
    ),
    ("_*_", "(@number, @number) @number"),
    ("_/_", "(@number, @number) @number"),
    ("_%_", "(int, int) int; (uint, uint) uint"),
    ("@in", "(A, list(A)) bool; (A, map(A, B)) bool"),
    (
        "_[_]",
        "(list(A), int) A; (map(A, B), A) B; (optional(list(A)), int) optional(A); \
         (optional(map(A, B)), A) optional(B)",
    ),
    (
        "_[?_]",
        "(list(A), int) optional(A); (optional(list(A)), int) optional(A); (map(A, B), A) optional(B); \
         (optional(map(A, B)), A) optional(B)",
    ),
    // Of every CEL.
    (
        "size",
        "(string) int; (bytes) int; (list(A)) int; (map(A, B)) int; string.() int; bytes.() int; list(A).() int; \
         map(A, B).() int",
    ),
    ("contains", "string.(string) bool"),
    ("startsWith", "string.(string) bool"),
    ("endsWith", "string.(string) bool"),
    ("matches", "(string, string) bool; string.(string) bool"),
    ("type", "(A) type"),
    ("dyn", "(A) dyn"),
    ("bool", "(bool) bool; (string) bool"),
    ("bytes", "(bytes) bytes; (string) bytes"),
    ("double", "(@number) double; (string) double"),
    ("duration", "(duration) duration; (string) duration"),
    ("int", "(@number) int; (duration) int; (string) int; (timestamp) int"),
    (
        "string",
        "(string) string; (bool) string; (bytes) string; (@number) string; (duration) string; \
         (net.IP) string; (net.CIDR) string",
    ),
    ("timestamp", "(timestamp) timestamp; (int) timestamp; (string) timestamp"),
    ("uint", "(@number) uint; (string) uint"),
    ("getFullYear", CALENDAR),
    ("getMonth", CALENDAR),
    ("getDayOfYear", CALENDAR),
    ("getDayOfMonth", CALENDAR),
    ("getDate", CALENDAR),
    ("getDayOfWeek", CALENDAR),
    ("getHours", CLOCK),
    ("getMinutes", CLOCK),
    ("getSeconds", CLOCK),
    ("getMilliseconds", CLOCK),
    // Optional values.
    ("optional.of", "(A) optional(A)"),
    ("optional.ofNonZeroValue", "(A) optional(A)"),
    ("optional.none", "() optional(A)"),
    ("optional.unwrap", "(list(optional(A))) list(A)"),
    ("unwrapOpt", "list(optional(A)).() list(A)"),
    ("value", "optional(A).() A"),
    ("hasValue", "optional(A).() bool"),
    ("or", "optional(A).(optional(A)) optional(A)"),
    ("orValue", "optional(A).(A) A"),
    ("first", "list(A).() optional(A)"),
    ("last", "list(A).() optional(A)"),
    // Strings.
    ("charAt", "string.(int) string"),
    ("indexOf", "string.(string) int; string.(string, int) int; list(A).(A) int"),
    ("lastIndexOf", "string.(string) int; string.(string, int) int; list(A).(A) int"),
    ("lowerAscii", "string.() string"),
    ("upperAscii", "string.() string"),
    ("trim", "string.() string"),
    ("replace", "string.(string, string) string; string.(string, string, int) string"),
    ("split", "string.(string) list(string); string.(string, int) list(string)"),
    ("substring", "string.(int) string; string.(int, int) string"),
    ("join", "list(string).() string; list(string).(string) string"),
    ("format", "string.(list(dyn)) string"),
    ("strings.quote", "(string) string"),
    ("find", "string.(string) string"),
    ("findAll", "string.(string) list(string); string.(string, int) list(string)"),
    // Lists.
    ("isSorted", "list(@ordered).() bool"),
    ("sum", "list(@summable).() @summable"),
    ("min", "list(@ordered).() @ordered"),
    ("max", "list(@ordered).() @ordered"),
    ("slice", "list(A).(int, int) list(A)"),
    ("flatten", "list(list(A)).() list(A); list(dyn).(int) list(dyn)"),
    ("distinct", "list(A).() list(A)"),
    ("reverse", "list(A).() list(A)"),
    ("sort", "list(@ordered).() list(@ordered)"),
    ("@sortBy", "(list(A), list(@ordered)) list(A)"),
    ("lists.range", "(int) list(int)"),
    ("sets.contains", "(list(A), list(A)) bool"),
    ("sets.equivalent", "(list(A), list(A)) bool"),
    ("sets.intersects", "(list(A), list(A)) bool"),
    // Addresses.
    ("isIP", "(string) bool"),
    ("ip", "(string) net.IP; net.CIDR.() net.IP"),
    ("ip.isCanonical", "(string) bool"),
    ("family", "net.IP.() int"),
    ("isUnspecified", "net.IP.() bool"),
    ("isLoopback", "net.IP.() bool"),
    ("isLinkLocalMulticast", "net.IP.() bool"),
    ("isLinkLocalUnicast", "net.IP.() bool"),
    ("isGlobalUnicast", "net.IP.() bool"),
    ("isCIDR", "(string) bool"),
    ("cidr", "(string) net.CIDR"),
    ("containsIP", "net.CIDR.(string) bool; net.CIDR.(net.IP) bool"),
    ("containsCIDR", "net.CIDR.(string) bool; net.CIDR.(net.CIDR) bool"),
    ("prefixLength", "net.CIDR.() int"),
    ("masked", "net.CIDR.() net.CIDR"),
    ("isURL", "(string) bool"),
    ("url", "(string) kubernetes.URL"),
    ("getScheme", "kubernetes.URL.() string"),
    ("getHost", "kubernetes.URL.() string"),
    ("getHostname", "kubernetes.URL.() string"),
    ("getPort", "kubernetes.URL.() string"),
    ("getEscapedPath", "kubernetes.URL.() string"),
    ("getQuery", "kubernetes.URL.() map(string, list(string))"),
    // Formats of Kubernetes' names.
    ("format.dns1123Label", "() kubernetes.NamedFormat"),
    ("format.dns1123Subdomain", "() kubernetes.NamedFormat"),
    ("format.dns1035Label", "() kubernetes.NamedFormat"),
    ("format.qualifiedName", "() kubernetes.NamedFormat"),
    ("format.dns1123LabelPrefix", "() kubernetes.NamedFormat"),
    ("format.dns1123SubdomainPrefix", "() kubernetes.NamedFormat"),
    ("format.dns1035LabelPrefix", "() kubernetes.NamedFormat"),
    ("format.labelValue", "() kubernetes.NamedFormat"),
    ("format.uuid", "() kubernetes.NamedFormat"),
    ("format.named", "(string) optional(kubernetes.NamedFormat)"),
    ("validate", "kubernetes.NamedFormat.(string) optional(list(string))"),
];

const COMPARED: &str = "(@ordered, @ordered) bool; (int, uint) bool; (int, double) bool; (uint, int) bool; \
                        (uint, double) bool; (double, int) bool; (double, uint) bool";
const CALENDAR: &str = "timestamp.() int; timestamp.(string) int";
const CLOCK: &str = "timestamp.() int; timestamp.(string) int; duration.() int";

/// With `@ordered` and the like written out.
fn each(way: &str) -> Vec<String> {
    let families = [("@ordered", &ORDERED[..]), ("@number", &NUMBER[..]), ("@summable", &SUMMABLE[..])];
    match families.into_iter().find(|(family, _)| way.contains(family)) {
        Some((family, members)) => members.iter().map(|member| way.replace(family, member)).collect(),
        None => vec![way.to_owned()],
    }
}

/// What is left of a signature's text.
struct Reader<'t>(&'t str);

impl Reader<'_> {
    fn signature(&mut self) -> Option<Signature> {
        let mut args = Vec::new();
        let method = !self.0.starts_with('(');
        if method {
            args.push(self.one()?);
            self.skip(".")?;
        }
        self.skip("(")?;
        while self.skip(")").is_none() {
            args.push(self.one()?);
            self.skip(", ");
        }
        self.skip(" ")?;
        let result = self.one()?;
        if !self.0.is_empty() {
            return None;
        }
        let params = args.iter().chain([&result]).map(highest).max().unwrap_or(0);
        Some(Signature { method, args, result, params })
    }

    fn one(&mut self) -> Option<Type> {
        if let Some(name) = NAMED.into_iter().find(|name| self.0.starts_with(name)) {
            self.skip(name)?;
            return Some(Type::Named(name));
        }
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(match word {
            "dyn" => Type::Dyn,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            "type" => Type::Kind,
            "list" | "optional" | "map" => {
                self.skip("(")?;
                let first = self.one()?;
                let made = match word {
                    "list" => Type::list(first),
                    "optional" => Type::optional(first),
                    _ => {
                        self.skip(", ")?;
                        Type::map(first, self.one()?)
                    }
                };
                self.skip(")")?;
                made
            }
            "A" => Type::Param(0),
            "B" => Type::Param(1),
            _ => return None,
        })
    }

    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }
}

/// One more than the highest parameter.
fn highest(of: &Type) -> u32 {
    match of {
        Type::Param(number) => number + 1,
        Type::List(held) | Type::Optional(held) => highest(held),
        Type::Map(key, value) => highest(key).max(highest(value)),
        _ => 0,
    }
}

/// Every way to call every function.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static Signature)> {
    FUNCTIONS.iter().flat_map(|(name, ways)| ways.iter().map(|way| (*name, way)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        for (name, ways) in DECLARED {
            for way in ways.split("; ").flat_map(each) {
                assert!(Reader(&way).signature().is_some(), "{name}: {way}");
            }
        }
    }

    #[test]
    fn families_are_written_out() {
        let sums = find("sum").unwrap();
        assert_eq!(sums.len(), 4);
        let of = Type::list(Type::Double);
        assert_eq!(sums[2], Signature { method: true, args: vec![of], result: Type::Double, params: 0 });
    }
}
