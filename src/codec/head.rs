//! What an object says of itself: its type and its names, whatever it is written in, and be it only its beginning that is there.

use super::{
    protobuf,
    tape::{Kind, Tape},
};

/// Type and names. What is missing, or no string, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.generateName`
    pub generate_name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
}

impl Head {
    /// Of an object in JSON. Of two equal keys the last counts.
    pub fn of_tape(tape: &Tape<'_>) -> Self {
        let mut head = Self::default();
        for (key, value) in tape.members(0) {
            match (&*tape.string(key), tape.kind(value)) {
                ("kind", Kind::Text | Kind::Escaped) => head.kind = tape.string(value).into_owned(),
                ("apiVersion", Kind::Text | Kind::Escaped) => {
                    head.api_version = tape.string(value).into_owned();
                }
                ("metadata", Kind::Object) => head.metadata(tape, value),
                _ => {}
            }
        }
        head
    }

    fn metadata(&mut self, tape: &Tape<'_>, at: usize) {
        for (key, value) in tape.members(at).filter(|(_, value)| tape.is_text(*value)) {
            let field = match &*tape.string(key) {
                "name" => &mut self.name,
                "generateName" => &mut self.generate_name,
                "namespace" => &mut self.namespace,
                "uid" => &mut self.uid,
                "resourceVersion" => &mut self.resource_version,
                _ => continue,
            };
            *field = tape.string(value).into_owned();
        }
    }

    /// Of an object in Kubernetes protobuf, known or not: the numbers are those of `runtime.Unknown`, `TypeMeta` and `ObjectMeta`,
    /// which every object has first. Of a list they are others, and so of that only its type is told.
    pub fn of_protobuf(body: &[u8]) -> Self {
        let mut head = Self::default();
        let text = |bytes: &[u8], is_whole: bool| {
            std::str::from_utf8(bytes).ok().filter(|_| is_whole).unwrap_or_default().to_owned()
        };
        let mut raw = &b""[..];
        fields(body.get(protobuf::MAGIC.len()..).unwrap_or_default(), |number, bytes, _| match number {
            1 => fields(bytes, |number, bytes, whole| match number {
                1 => head.api_version = text(bytes, whole),
                2 => head.kind = text(bytes, whole),
                _ => {}
            }),
            2 => raw = bytes,
            _ => {}
        });
        if head.kind.is_empty() || head.kind.ends_with("List") || head.kind == "Status" {
            return head;
        }
        let mut metadata = None;
        fields(raw, |number, bytes, _| {
            if number == 1 {
                metadata.get_or_insert(bytes);
            }
        });
        fields(metadata.unwrap_or_default(), |number, bytes, whole| {
            let field = match number {
                1 => &mut head.name,
                2 => &mut head.generate_name,
                3 => &mut head.namespace,
                5 => &mut head.uid,
                6 => &mut head.resource_version,
                _ => return,
            };
            *field = text(bytes, whole);
        });
        head
    }
}

/// The fields of a message that hold bytes, and whether all of their bytes are there.
fn fields<'a>(mut rest: &'a [u8], mut field: impl FnMut(u64, &'a [u8], bool)) {
    fn varint(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    while let Some(key) = varint(&mut rest) {
        let skip = match key & 7 {
            0 => {
                if varint(&mut rest).is_none() {
                    return;
                }
                0
            }
            1 => 8,
            5 => 4,
            2 => {
                let Some(length) = varint(&mut rest).and_then(|n| usize::try_from(n).ok()) else { return };
                field(key >> 3, rest.get(..length).unwrap_or(rest), length <= rest.len());
                length
            }
            _ => return,
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
}
