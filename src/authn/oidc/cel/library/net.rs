//! `ip` and `cidr`, as Go's `net/netip` reads them; IPv4 within IPv6 and zones are refused.

use super::super::runtime::{
    Args, Outcome, as_text, exactly, failed, made_bool, made_int, made_text, named, no_overload,
};
use cel::{
    DeclarationError, Env,
    common::{
        types::{STRING_TYPE, Type},
        value::CowVal,
    },
};
use std::net::IpAddr;

static IP: Type = named("net.IP");
static CIDR: Type = named("net.CIDR");

/// `net.IP`.
#[derive(Debug, Clone, PartialEq)]
struct Ip(IpAddr);

/// `net.CIDR`: an address in a network, and how many bits are the network's.
#[derive(Debug, Clone, PartialEq)]
struct Cidr(IpAddr, u8);

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    let ip = || named("net.IP");
    let cidr = || named("net.CIDR");
    env.add_overload("isIP", "is_ip", vec![STRING_TYPE], |args| {
        of_text("isIP", args, |text| made_bool(read_ip(text).is_some()))
    })?;
    env.add_overload("isCIDR", "is_cidr", vec![STRING_TYPE], |args| {
        of_text("isCIDR", args, |text| made_bool(read_cidr(text).is_some()))
    })?;
    env.add_overload("ip", "string_to_ip", vec![STRING_TYPE], |args| {
        of_text("ip", args, |text| {
            read_ip(text).map(CowVal::owned).ok_or_else(|| failed("ip", "not an IP address"))
        })
    })?;
    env.add_overload("cidr", "string_to_cidr", vec![STRING_TYPE], |args| {
        of_text("cidr", args, |text| {
            read_cidr(text).map(CowVal::owned).ok_or_else(|| failed("cidr", "not a network"))
        })
    })?;
    env.add_overload("ip.isCanonical", "ip_is_canonical", vec![STRING_TYPE], |args| {
        of_text("ip.isCanonical", args, |text| match read_ip(text) {
            Some(Ip(ip)) => made_bool(ip.to_string() == text),
            None => Err(failed("ip.isCanonical", "not an IP address")),
        })
    })?;
    env.add_overload("string", "ip_to_string", vec![ip()], |args| {
        of_ip(args, |ip| made_text("string", ip.to_string()))
    })?;
    env.add_overload("string", "cidr_to_string", vec![cidr()], |args| {
        of_cidr(args, |Cidr(ip, bits)| made_text("string", format!("{ip}/{bits}")))
    })?;
    env.add_member_overload("family", "ip_family", ip(), vec![], |args| {
        of_ip(args, |ip| made_int(if ip.is_ipv4() { 4 } else { 6 }))
    })?;
    env.add_member_overload("isUnspecified", "ip_is_unspecified", ip(), vec![], |args| {
        of_ip(args, |ip| made_bool(ip.is_unspecified()))
    })?;
    env.add_member_overload("isLoopback", "ip_is_loopback", ip(), vec![], |args| {
        of_ip(args, |ip| made_bool(ip.is_loopback()))
    })?;
    env.add_member_overload("isLinkLocalMulticast", "ip_is_link_local_multicast", ip(), vec![], |args| {
        of_ip(args, |ip| made_bool(is_link_local_multicast(ip)))
    })?;
    env.add_member_overload("isLinkLocalUnicast", "ip_is_link_local_unicast", ip(), vec![], |args| {
        of_ip(args, |ip| made_bool(is_link_local_unicast(ip)))
    })?;
    env.add_member_overload("isGlobalUnicast", "ip_is_global_unicast", ip(), vec![], |args| {
        of_ip(args, |ip| made_bool(is_global_unicast(ip)))
    })?;
    for other in [STRING_TYPE, ip()] {
        let id = format!("cidr_contains_ip_{}", other.name());
        env.add_member_overload("containsIP", &id, cidr(), vec![other], contains_ip)?;
    }
    for other in [STRING_TYPE, cidr()] {
        let id = format!("cidr_contains_cidr_{}", other.name());
        env.add_member_overload("containsCIDR", &id, cidr(), vec![other], contains_cidr)?;
    }
    env.add_member_overload("ip", "cidr_ip", cidr(), vec![], |args| {
        of_cidr(args, |Cidr(ip, _)| Ok(CowVal::owned(Ip(*ip))))
    })?;
    env.add_member_overload("prefixLength", "cidr_prefix_length", cidr(), vec![], |args| {
        of_cidr(args, |Cidr(_, bits)| made_int(i64::from(*bits)))
    })?;
    env.add_member_overload("masked", "cidr_masked", cidr(), vec![], |args| {
        of_cidr(args, |Cidr(ip, bits)| Ok(CowVal::owned(Cidr(masked(*ip, *bits), *bits))))
    })
}

fn read_ip(text: &str) -> Option<Ip> {
    let ip: IpAddr = text.parse().ok()?;
    match ip {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => None,
        ip => Some(Ip(ip)),
    }
}

fn read_cidr(text: &str) -> Option<Cidr> {
    let (ip, bits) = text.rsplit_once('/')?;
    let Ip(ip) = read_ip(ip)?;
    let plain = bits.bytes().all(|digit| digit.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|_| plain)?;
    (bits <= width(ip)).then_some(Cidr(ip, bits))
}

const fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

fn holds(Cidr(net, bits): &Cidr, ip: IpAddr) -> bool {
    net.is_ipv4() == ip.is_ipv4() && masked(*net, *bits) == masked(ip, *bits)
}

fn is_link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(is_broadcast
        || ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_multicast()
        || is_link_local_unicast(ip))
}

fn of_text<'b, 'v>(
    function: &str,
    args: Args<'b, 'v>,
    make: impl FnOnce(&str) -> Outcome<'b, 'v>,
) -> Outcome<'b, 'v> {
    let [text] = exactly(function, args)?;
    match as_text(text.as_ref()) {
        Some(text) => make(text),
        None => Err(no_overload(function, &[text])),
    }
}

fn of_ip<'b, 'v>(args: Args<'b, 'v>, make: impl FnOnce(IpAddr) -> Outcome<'b, 'v>) -> Outcome<'b, 'v> {
    let [ip] = exactly("ip", args)?;
    match ip.downcast_ref::<Ip>() {
        Some(Ip(ip)) => make(*ip),
        None => Err(no_overload("ip", &[ip])),
    }
}

fn of_cidr<'b, 'v>(args: Args<'b, 'v>, make: impl FnOnce(&Cidr) -> Outcome<'b, 'v>) -> Outcome<'b, 'v> {
    let [cidr] = exactly("cidr", args)?;
    match cidr.downcast_ref::<Cidr>() {
        Some(cidr) => make(cidr),
        None => Err(no_overload("cidr", &[cidr])),
    }
}

fn contains_ip<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [cidr, other] = exactly("containsIP", args)?;
    let ip = match as_text(other.as_ref()) {
        Some(text) => Some(read_ip(text).ok_or_else(|| failed("containsIP", "not an IP address"))?),
        None => other.downcast_ref::<Ip>().cloned(),
    };
    match (cidr.downcast_ref::<Cidr>(), ip) {
        (Some(cidr), Some(Ip(ip))) => made_bool(holds(cidr, ip)),
        _ => Err(no_overload("containsIP", &[cidr, other])),
    }
}

fn contains_cidr<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [cidr, other] = exactly("containsCIDR", args)?;
    let inner = match as_text(other.as_ref()) {
        Some(text) => Some(read_cidr(text).ok_or_else(|| failed("containsCIDR", "not a network"))?),
        None => other.downcast_ref::<Cidr>().cloned(),
    };
    match (cidr.downcast_ref::<Cidr>(), inner) {
        (Some(outer), Some(inner)) => made_bool(outer.1 <= inner.1 && holds(outer, inner.0)),
        _ => Err(no_overload("containsCIDR", &[cidr, other])),
    }
}

value!(Ip, IP);

value!(Cidr, CIDR);
