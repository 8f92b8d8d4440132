//! Small values that stand in many places.

use std::{net::IpAddr, time::Duration};

use config::model::{Action, Name, Password};
use net_types::{Asn, Family, IfName, Prefix};
use proptest::{prelude::*, sample::select};

pub(super) fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z][A-Za-z0-9_.-]{0,12}".prop_map(|text| text.parse().unwrap())
}

pub(super) fn interface() -> impl Strategy<Value = IfName> {
    // An interface may have a name that is a word of ours.
    prop_oneof!["[a-z][a-z0-9.-]{0,10}", Just("permit".to_owned())].prop_map(|text| text.parse().unwrap())
}

pub(super) fn text() -> impl Strategy<Value = String> {
    "[!-~]{1,5}( {1,2}[!-~]{1,5}){0,3}"
}

pub(super) fn path() -> impl Strategy<Value = std::path::PathBuf> {
    "/[a-z.]{1,8}(/[A-Za-z0-9_.-]{1,8}){0,2}".prop_map(Into::into)
}

pub(super) fn seconds(low: u64, high: u64) -> impl Strategy<Value = Duration> {
    (low..=high).prop_map(Duration::from_secs)
}

pub(super) fn unicast() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..224, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
        any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| IpAddr::from([0x2001, b, c, d, e, f, g, h])),
    ]
}

pub(super) fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), 0u8..=128)
        .prop_map(|(address, bits)| Prefix::new(address, if address.is_ipv4() { bits % 33 } else { bits }).unwrap())
}

pub(super) fn prefix_of(family: Family) -> impl Strategy<Value = Prefix> {
    prefix().prop_filter("family", move |prefix| prefix.family() == family)
}

pub(super) fn family() -> impl Strategy<Value = Family> {
    select(&Family::UNICAST[..])
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    select(&[Action::Permit, Action::Deny][..])
}

pub(super) fn asn() -> impl Strategy<Value = Asn> {
    (1u32..).prop_map(|number| number.try_into().unwrap())
}

pub(super) fn password() -> impl Strategy<Value = Password> {
    prop_oneof!["[!-~]{1,80}".prop_map(|text| Password::Inline(text.parse().unwrap())), path().prop_map(Password::File)]
}

/// A group's name cannot be an address.
pub(super) fn group_name() -> impl Strategy<Value = Name> {
    "[A-Z][A-Z0-9_.-]{0,12}".prop_map(|text| text.parse().unwrap())
}
