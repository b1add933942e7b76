//! `Accept` as kube-apiserver reads it: clauses by their weight, of which the first that can be served wins.

/// The clauses, the heaviest first.
pub(super) struct Accept<'h> {
    clauses: Vec<Clause<'h>>,
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// How it is written.
    pub(super) format: Format,
    /// As a table.
    pub(super) table: bool,
}

/// How an object can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    Protobuf,
    /// If the server has it.
    Cbor,
}

/// What a resource can be served as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Serves {
    /// Objects, unless converted, as protobuf.
    pub(super) protobuf: bool,
    /// Tables.
    pub(super) tables: bool,
}

#[derive(Debug)]
struct Clause<'h> {
    kind: &'h str,
    subtype: &'h str,
    weight: f64,
    parameters: &'h str,
}

/// What the parameters of a clause ask for.
#[derive(Default)]
struct Wanted<'h> {
    converted: bool,
    kind: &'h str,
    group: &'h str,
    version: &'h str,
    stream: &'h str,
    server_version: &'h str,
}

impl<'h> Accept<'h> {
    pub(super) fn parse(header: &'h str) -> Self {
        let mut clauses: Vec<Clause<'h>> = header.split(',').filter_map(Clause::parse).collect();
        // The original's order is no total one; up to this length it sorts by insertion, and so must we.
        if clauses.len() <= SORTED_BY_INSERTION {
            for end in 1..clauses.len() {
                for at in (1..=end).rev() {
                    let before = match (clauses.get(at), clauses.get(at - 1)) {
                        (Some(this), Some(last)) => this.before(last),
                        _ => false,
                    };
                    if !before {
                        break;
                    }
                    clauses.swap(at, at - 1);
                }
            }
        }
        Self { clauses }
    }

    /// Whether anything is served: no matter in which order.
    pub(super) fn any(header: &str, serves: Serves) -> bool {
        header.split(',').filter_map(Clause::parse).any(|clause| clause.offer(serves).is_some())
    }

    /// Whether the clauses stand in the order in which the original tries them.
    pub(super) fn in_order(&self) -> bool {
        self.clauses.len() <= SORTED_BY_INSERTION
    }

    /// What is served; None: nothing.
    pub(super) fn choose(&self, serves: Serves) -> Option<Offer> {
        self.clauses.iter().find_map(|clause| clause.offer(serves))
    }
}

const SORTED_BY_INSERTION: usize = 12;

impl<'h> Clause<'h> {
    fn parse(part: &'h str) -> Option<Self> {
        let part = part.trim_matches(' ');
        let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
        let (kind, subtype) = match name.split_once('/') {
            Some((kind, subtype)) if !subtype.is_empty() => (kind.trim_matches(' '), subtype),
            other => match other.map_or(name, |(kind, _)| kind).trim_matches(' ') {
                "*" => ("*", "*"),
                _ => return None,
            },
        };
        // One slash may stand at the end.
        let subtype = match subtype.split_once('/') {
            Some((subtype, "")) => subtype,
            Some(_) => return None,
            None => subtype,
        };
        let weight = parameters_of(parameters).filter(|(name, _)| *name == "q").last();
        let weight = weight.map_or(1.0, |(_, value)| value.parse::<f32>().map_or(0.0, f64::from));
        Some(Self { kind, subtype: subtype.trim_matches(' '), weight, parameters })
    }

    fn before(&self, other: &Self) -> bool {
        self.weight > other.weight
            || self.kind != "*" && other.kind == "*"
            || self.subtype != "*" && other.subtype == "*"
    }

    fn offer(&self, serves: Serves) -> Option<Offer> {
        let matches = |subtype: &str| {
            (self.kind == "application" && (self.subtype == subtype || self.subtype == "*"))
                || (self.kind == "*" && self.subtype == "*")
        };
        let wanted = Wanted::of(self.parameters);
        if !matches!(wanted.server_version, "" | "v1") {
            return None;
        }
        let conversion = wanted.conversion()?;
        let table = conversion == Some("Table");
        let streams = matches!(wanted.stream, "" | "watch");
        let offer = |format| Some(Offer { format, table });
        if matches("json") && streams && (!table || serves.tables) {
            return offer(Format::Json);
        }
        if matches("yaml") && wanted.stream.is_empty() && (!table || serves.tables) {
            return offer(Format::Yaml);
        }
        if matches("vnd.kubernetes.protobuf")
            && streams
            && !table
            && (conversion.is_some() || serves.protobuf)
        {
            return offer(Format::Protobuf);
        }
        matches!((self.kind, self.subtype), ("application", "cbor" | "cbor-seq"))
            .then_some(Offer { format: Format::Cbor, table })
    }
}

impl<'h> Wanted<'h> {
    fn of(parameters: &'h str) -> Self {
        let mut wanted = Self::default();
        for (name, value) in parameters_of(parameters) {
            let value = value.trim_matches(' ');
            match name {
                "as" => (wanted.converted, wanted.kind) = (true, value),
                "g" => (wanted.converted, wanted.group) = (true, value),
                "v" => (wanted.converted, wanted.version) = (true, value),
                "stream" => wanted.stream = value,
                "sv" => wanted.server_version = value,
                _ => {}
            }
        }
        wanted
    }

    /// Some: what the object is turned into, if into anything. None: into nothing that is known.
    fn conversion(&self) -> Option<Option<&'h str>> {
        if !self.converted {
            return Some(None);
        }
        let known = self.group == "meta.k8s.io"
            && matches!(self.version, "v1" | "v1beta1")
            && matches!(self.kind, "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList");
        known.then_some(Some(self.kind))
    }
}

/// `name=value` between semicolons; what has no value, or more than one, does not count.
fn parameters_of(parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    parameters.split(';').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=').filter(|(_, value)| !value.is_empty())?;
        match value.split_once('=') {
            Some((value, "")) => Some((name.trim_matches(' '), value)),
            Some(_) => None,
            None => Some((name.trim_matches(' '), value)),
        }
    })
}
