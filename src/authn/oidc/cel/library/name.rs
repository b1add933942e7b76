//! `format.*`: whether a text is a name as Kubernetes has them. The messages are of ours.

use super::super::runtime::{Args, Outcome, as_text, exactly, failed, made_texts, named, no_overload};
use cel::{
    DeclarationError, Env,
    common::{
        types::{CelOptional, STRING_TYPE, Type},
        value::CowVal,
    },
};

static FORMAT: Type = named("kubernetes.NamedFormat");

/// `kubernetes.NamedFormat`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Label,
    LabelPrefix,
    Subdomain,
    SubdomainPrefix,
    Rfc1035Label,
    Rfc1035LabelPrefix,
    Qualified,
    LabelValue,
    Uuid,
}

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("format.dns1123Label", "f1", vec![], |_| Ok(CowVal::owned(Format::Label)))?;
    env.add_overload("format.dns1123LabelPrefix", "f2", vec![], |_| Ok(CowVal::owned(Format::LabelPrefix)))?;
    env.add_overload("format.dns1123Subdomain", "f3", vec![], |_| Ok(CowVal::owned(Format::Subdomain)))?;
    env.add_overload("format.dns1123SubdomainPrefix", "f4", vec![], |_| {
        Ok(CowVal::owned(Format::SubdomainPrefix))
    })?;
    env.add_overload("format.dns1035Label", "f5", vec![], |_| Ok(CowVal::owned(Format::Rfc1035Label)))?;
    env.add_overload("format.dns1035LabelPrefix", "f6", vec![], |_| {
        Ok(CowVal::owned(Format::Rfc1035LabelPrefix))
    })?;
    env.add_overload("format.qualifiedName", "f7", vec![], |_| Ok(CowVal::owned(Format::Qualified)))?;
    env.add_overload("format.labelValue", "f8", vec![], |_| Ok(CowVal::owned(Format::LabelValue)))?;
    env.add_overload("format.uuid", "f9", vec![], |_| Ok(CowVal::owned(Format::Uuid)))?;
    env.add_overload("format.named", "format_named", vec![STRING_TYPE], by_name)?;
    env.add_member_overload("validate", "format_validate", named(FORMAT_NAME), vec![STRING_TYPE], validate)
}

const FORMAT_NAME: &str = "kubernetes.NamedFormat";

fn by_name<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [name] = exactly("format.named", args)?;
    let Some(text) = as_text(name.as_ref()) else { return Err(no_overload("format.named", &[name])) };
    let format = match text {
        "dns1123Label" => Format::Label,
        "dns1123LabelPrefix" => Format::LabelPrefix,
        "dns1123Subdomain" => Format::Subdomain,
        "dns1123SubdomainPrefix" => Format::SubdomainPrefix,
        "dns1035Label" => Format::Rfc1035Label,
        "dns1035LabelPrefix" => Format::Rfc1035LabelPrefix,
        "qualifiedName" => Format::Qualified,
        "labelValue" => Format::LabelValue,
        "uuid" => Format::Uuid,
        // Kubernetes has these; none here would pass for "no such format".
        "uri" | "byte" | "date" | "datetime" => {
            return Err(failed("format.named", "not a format known here"));
        }
        _ => return Ok(CowVal::owned(CelOptional::none())),
    };
    Ok(CowVal::owned(CelOptional::of(Box::new(format))))
}

/// What is wrong with a text, if anything is.
fn validate<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [format, text] = exactly("validate", args)?;
    match (format.downcast_ref::<Format>(), as_text(text.as_ref())) {
        (Some(format), Some(name)) if format.fits(name) => Ok(CowVal::owned(CelOptional::none())),
        (Some(format), Some(_)) => {
            let why = made_texts([format!("not a {format:?}")].into_iter())?;
            Ok(CowVal::owned(CelOptional::of(why.into_owned())))
        }
        _ => Err(no_overload("validate", &[format, text])),
    }
}

impl Format {
    fn fits(self, text: &str) -> bool {
        match self {
            Self::Label => text.len() <= 63 && is_label(text),
            Self::LabelPrefix => Self::Label.fits(&completed(text)),
            Self::Subdomain => text.len() <= 253 && text.split('.').all(is_label),
            Self::SubdomainPrefix => Self::Subdomain.fits(&completed(text)),
            Self::Rfc1035Label => {
                Self::Label.fits(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
            }
            Self::Rfc1035LabelPrefix => Self::Rfc1035Label.fits(&completed(text)),
            Self::Qualified => match text.split_once('/') {
                Some((domain, name)) => Self::Subdomain.fits(domain) && is_name(name),
                None => is_name(text),
            },
            Self::LabelValue => text.is_empty() || is_name(text),
            Self::Uuid => is_uuid(text),
        }
    }
}

/// What begins a name may end with a dash.
fn completed(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let kept = rest.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", rest.get(..kept).unwrap_or_default())
        }
        _ => text.to_owned(),
    }
}

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'))
}

fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [whole] => whole.len() == 32 && hex(whole),
        _ => parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part)),
    }
}

value!(Format, FORMAT);
