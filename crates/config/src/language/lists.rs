//! Lists that policies ask: access-lists, AS path access-lists and community-lists, in FRR's spelling.

use std::{collections::BTreeMap, fmt::Display, net::Ipv4Addr, str::FromStr};

use net_types::{Family, Prefix};

use super::{Action, Draft, Lines, Statement, Verb, routing};
use crate::{
    grammar::{Args, Complaint},
    model::{AccessTarget, AliasedCommunity, CommunityList, Config, ExtCommunityTerms, Name, Pattern, Rules},
};

/// A row that reads; what it reads is written by the first row of its kind.
macro_rules! row {
    ($syntax:expr, $help:literal, $read:expr) => {
        row!($syntax, $help, $read, |_, _| {})
    };
    ($syntax:expr, $help:literal, $read:expr, $write:expr) => {
        Statement { syntax: $syntax, help: $help, action: Action::Config(Verb { read: $read, write: $write }) }
    };
}

/// The rows of one kind of community-list: its word, the values of a standard rule, how they are read, and where they go.
macro_rules! community_list {
    ($word:literal, $values:literal, $read:expr, $field:ident) => {
        [
            row!(
                concat!(
                    "(bgp|ip) ",
                    $word,
                    " (standard NAME|STANDARD:1-99) [seq SEQUENCE:1-4294967295] (permit|deny) ",
                    $values
                ),
                "A line of a list that names communities",
                |draft, args| {
                    let rules = standard(&mut draft.config.$field, args)?;
                    rules.put(args.opt("SEQUENCE")?, routing::action(args), $read(args)?);
                    Ok(())
                },
                |config, lines| write_community_lists($word, &config.$field, lines)
            ),
            row!(
                concat!(
                    "(bgp|ip) ",
                    $word,
                    " (expanded NAME|EXPANDED:100-500) [seq SEQUENCE:1-4294967295] (permit|deny) REGEX"
                ),
                "A line of a list of regular expressions over communities",
                |draft, args| {
                    let rules = expanded(&mut draft.config.$field, args)?;
                    rules.put(args.opt("SEQUENCE")?, routing::action(args), args.get("REGEX")?);
                    Ok(())
                }
            ),
        ]
    };
}

pub(super) const COMMUNITY: &[Statement] =
    &community_list!("community-list", "COMMUNITY...", |args| sorted(args, "COMMUNITY"), community_lists);

pub(super) const LARGE_COMMUNITY: &[Statement] = &community_list!(
    "large-community-list",
    "LARGE-COMMUNITY...",
    |args| sorted(args, "LARGE-COMMUNITY"),
    large_community_lists
);

pub(super) const EXT_COMMUNITY: &[Statement] = &community_list!(
    "extcommunity-list",
    "EXTCOMMUNITIES",
    |args: &Args<'_>| args.get("EXTCOMMUNITIES").map(|terms: ExtCommunityTerms| terms.0),
    ext_community_lists
);

pub(super) const ROWS: &[Statement] = &[
    row!(
        "bgp community alias (COMMUNITY|LARGE-COMMUNITY) NAME",
        "A name for a community, in what is shown and in route-maps",
        |draft, args| {
            let community = match args.opt("COMMUNITY")? {
                Some(community) => AliasedCommunity::Standard(community),
                None => AliasedCommunity::Large(args.get("LARGE-COMMUNITY")?),
            };
            let name: Name = args.get("NAME")?;
            let aliases = &mut draft.config.community_aliases;
            if let Some((other, _)) = aliases.iter().find(|(other, known)| **other != community && **known == name) {
                return Err(args.complain("NAME", format!("{name} is the alias of {other} already")));
            }
            aliases.insert(community, name);
            Ok(())
        },
        |config, lines| {
            for (community, name) in &config.community_aliases {
                lines.line(format_args!("bgp community alias {community} {name}"));
            }
        }
    ),
    row!(
        "[ip] access-list NAME [seq SEQUENCE:1-4294967295] (permit|deny) (any|PREFIX4 [exact-match]|host IPV4|IPV4 WILDCARD)",
        "A line of an access-list",
        |draft, args| put_access(draft, args, Family::Ipv4Unicast),
        |config, lines| write_access_lists(config, lines, Family::Ipv4Unicast)
    ),
    row!(
        "ipv6 access-list NAME [seq SEQUENCE:1-4294967295] (permit|deny) (any|PREFIX6 [exact-match])",
        "A line of an access-list",
        |draft, args| put_access(draft, args, Family::Ipv6Unicast),
        |config, lines| write_access_lists(config, lines, Family::Ipv6Unicast)
    ),
    row!(
        "(bgp|ip) as-path access-list NAME [seq SEQUENCE:1-4294967295] (permit|deny) REGEX",
        "A regular expression over AS paths",
        |draft, args| {
            let rules = draft.config.as_path_lists.entry(args.get("NAME")?).or_default();
            rules.put(args.opt("SEQUENCE")?, routing::action(args), args.get("REGEX")?);
            Ok(())
        },
        |config, lines| {
            for (name, rules) in &config.as_path_lists {
                write_rules(&format!("bgp as-path access-list {name}"), rules, lines, ToString::to_string);
            }
        }
    ),
];

/// Every value of that label, in the order of communities in an attribute.
fn sorted<C: FromStr + Ord>(args: &Args<'_>, label: &str) -> Result<Vec<C>, Complaint>
where
    C::Err: Display,
{
    let mut values = args.all(label)?;
    values.sort();
    values.dedup();
    Ok(values)
}

/// The list's name, which may be a number that tells its kind.
fn list_name(args: &Args<'_>) -> Result<Name, Complaint> {
    for label in ["NAME", "STANDARD", "EXPANDED"] {
        if let Some(name) = args.opt(label)? {
            return Ok(name);
        }
    }
    Err(Complaint::new("the list has no name"))
}

fn standard<'a, C>(
    lists: &'a mut BTreeMap<Name, CommunityList<C>>,
    args: &Args<'_>,
) -> Result<&'a mut Rules<Vec<C>>, Complaint> {
    let name = list_name(args)?;
    let list = lists.entry(name.clone()).or_insert_with(|| CommunityList::Standard(Rules::default()));
    match list {
        CommunityList::Standard(rules) => Ok(rules),
        CommunityList::Expanded(_) => Err(Complaint::new(format!("list {name} is an expanded one above"))),
    }
}

fn expanded<'a, C>(
    lists: &'a mut BTreeMap<Name, CommunityList<C>>,
    args: &Args<'_>,
) -> Result<&'a mut Rules<Pattern>, Complaint> {
    let name = list_name(args)?;
    let list = lists.entry(name.clone()).or_insert_with(|| CommunityList::Expanded(Rules::default()));
    match list {
        CommunityList::Expanded(rules) => Ok(rules),
        CommunityList::Standard(_) => Err(Complaint::new(format!("list {name} is a standard one above"))),
    }
}

/// Whether a list has its kind from its number, and therefore not from a word.
fn is_numbered(name: &Name, low: u32, high: u32) -> bool {
    crate::model::digits::<u32>(name.as_str()).is_some_and(|number| (low..=high).contains(&number))
}

fn write_community_lists<C: Display>(word: &str, lists: &BTreeMap<Name, CommunityList<C>>, lines: &mut Lines) {
    for (name, list) in lists {
        match list {
            CommunityList::Standard(rules) => {
                let kind = if is_numbered(name, 1, 99) { "" } else { "standard " };
                write_rules(&format!("bgp {word} {kind}{name}"), rules, lines, |values| super::ipsec::spaced(values));
            }
            CommunityList::Expanded(rules) => {
                let kind = if is_numbered(name, 100, 500) { "" } else { "expanded " };
                write_rules(&format!("bgp {word} {kind}{name}"), rules, lines, ToString::to_string);
            }
        }
    }
}

fn write_rules<R>(head: &str, rules: &Rules<R>, lines: &mut Lines, spell: impl Fn(&R) -> String) {
    for (sequence, (action, rule)) in &rules.0 {
        lines.line(format_args!("{head} seq {sequence} {} {}", action.as_str(), spell(rule)));
    }
}

fn access_target(args: &Args<'_>, family: Family) -> Result<AccessTarget, Complaint> {
    let label = match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => "PREFIX4",
        Family::Ipv6Unicast | Family::Ipv6Vpn => "PREFIX6",
    };
    Ok(match args.opt::<Prefix>(label)? {
        Some(prefix) if args.has("exact-match") => AccessTarget::Exactly(prefix),
        Some(prefix) => AccessTarget::Within(prefix),
        None if args.has("any") => AccessTarget::Any,
        None => {
            let wildcard = args.opt("WILDCARD")?.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let address: Ipv4Addr = args.get("IPV4")?;
            // Bits that do not matter are written as zeros, so that what means the same is equal.
            AccessTarget::Wildcard { address: (u32::from(address) & !u32::from(wildcard)).into(), wildcard }
        }
    })
}

fn put_access(draft: &mut Draft, args: &Args<'_>, family: Family) -> Result<(), Complaint> {
    let target = access_target(args, family)?;
    let rules = draft.config.access_lists.entry((family, args.get("NAME")?)).or_default();
    rules.put(args.opt("SEQUENCE")?, routing::action(args), target);
    Ok(())
}

fn write_access_lists(config: &Config, lines: &mut Lines, family: Family) {
    let keyword = match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn => "access-list",
        Family::Ipv6Unicast | Family::Ipv6Vpn => "ipv6 access-list",
    };
    for ((_, name), rules) in config.access_lists.iter().filter(|((of, _), _)| *of == family) {
        write_rules(&format!("{keyword} {name}"), rules, lines, ToString::to_string);
    }
}

impl std::fmt::Display for AccessTarget {
    /// As the configuration has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Within(prefix) => prefix.fmt(f),
            Self::Exactly(prefix) => write!(f, "{prefix} exact-match"),
            Self::Wildcard { address, wildcard: Ipv4Addr::UNSPECIFIED } => write!(f, "host {address}"),
            Self::Wildcard { address, wildcard } => write!(f, "{address} {wildcard}"),
        }
    }
}
