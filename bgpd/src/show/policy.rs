//! `show route-map` and the lists: what is configured, as FRR shows it.

use std::{collections::BTreeMap, fmt::Write as _};

use config::model::{
    Action, CommunityList, Config, ExtCommunityTerm, Name, OnMatch, Pattern, PrefixList, RouteMap, RouteMapEntry, Rules,
};
use net_types::Family;
use serde_json::{Map, Value, json};

/// Those of a name, or all.
fn chosen<'a, T>(all: &'a BTreeMap<Name, T>, only: Option<&'a Name>) -> impl Iterator<Item = (&'a Name, &'a T)> {
    all.iter().filter(move |(name, _)| only.is_none_or(|only| only == *name))
}

/// `show route-map`
pub fn route_maps_text(config: &Config, only: Option<&Name>) -> String {
    let mut out = String::from("BGP:\n");
    for (name, map) in chosen(&config.route_maps, only) {
        let _ = writeln!(out, "route-map: {name}");
        for (sequence, entry) in &map.entries {
            let RouteMapEntry { action, description, matches, sets, call, on_match } = entry;
            let _ = writeln!(out, " {}, sequence {sequence}", action.as_str());
            if let Some(text) = description {
                let _ = writeln!(out, "  Description:\n    {text}");
            }
            out.push_str("  Match clauses:\n");
            matches.iter().for_each(|condition| {
                let _ = writeln!(out, "    {condition}");
            });
            out.push_str("  Set clauses:\n");
            sets.iter().for_each(|change| {
                let _ = writeln!(out, "    {change}");
            });
            out.push_str("  Call clause:\n");
            call.iter().for_each(|name| {
                let _ = writeln!(out, "    Call {name}");
            });
            let _ = writeln!(out, "  Action:\n    {}", what_follows(*on_match));
        }
    }
    out
}

fn what_follows(on_match: OnMatch) -> String {
    match on_match {
        OnMatch::Stop => "Exit routemap".to_owned(),
        OnMatch::Next => "Continue to next entry".to_owned(),
        OnMatch::Goto(sequence) => format!("Goto {sequence}"),
    }
}

/// The same as JSON.
pub fn route_maps_json(config: &Config, only: Option<&Name>) -> Value {
    let rule = |(sequence, entry): (&u16, &RouteMapEntry)| {
        let texts = |list: Vec<String>| Value::from(list);
        let mut rule = Map::new();
        rule.insert("sequenceNumber".into(), (*sequence).into());
        rule.insert("type".into(), entry.action.as_str().into());
        if let Some(text) = &entry.description {
            rule.insert("description".into(), text.as_str().into());
        }
        rule.insert("matchClauses".into(), texts(entry.matches.iter().map(ToString::to_string).collect()));
        rule.insert("setClauses".into(), texts(entry.sets.iter().map(ToString::to_string).collect()));
        if let Some(call) = &entry.call {
            rule.insert("callClause".into(), call.as_str().into());
        }
        rule.insert("action".into(), what_follows(entry.on_match).into());
        Value::Object(rule)
    };
    let map = |(name, map): (&Name, &RouteMap)| {
        (name.to_string(), json!({ "rules": map.entries.iter().map(rule).collect::<Vec<_>>() }))
    };
    json!({ "BGP": Value::Object(chosen(&config.route_maps, only).map(map).collect()) })
}

fn of_family<T>(all: &BTreeMap<(Family, Name), T>, family: Family) -> BTreeMap<&Name, &T> {
    all.iter().filter(|((of, _), _)| *of == family).map(|((_, name), list)| (name, list)).collect()
}

/// `show ip|ipv6 prefix-list`
pub fn prefix_lists_text(config: &Config, family: Family, only: Option<&Name>) -> String {
    let mut out = String::new();
    for (name, list) in of_family(&config.prefix_lists, family) {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let keyword = if family == Family::Ipv4Unicast { "ip" } else { "ipv6" };
        let _ = writeln!(out, "BGP: {keyword} prefix-list {name}: {} entries", list.entries.len());
        if let Some(text) = &list.description {
            let _ = writeln!(out, "   Description: {text}");
        }
        for (sequence, entry) in &list.entries {
            let _ = write!(out, "   seq {sequence} {} ", entry.action.as_str());
            if entry.prefix.bits() == 0 && entry.ge.is_none() && entry.le == Some(family.max_bits()) {
                out.push_str("any");
            } else {
                let _ = write!(out, "{}", entry.prefix);
                entry.ge.iter().for_each(|ge| {
                    let _ = write!(out, " ge {ge}");
                });
                entry.le.iter().for_each(|le| {
                    let _ = write!(out, " le {le}");
                });
            }
            out.push('\n');
        }
    }
    out
}

/// The same as JSON.
pub fn prefix_lists_json(config: &Config, family: Family, only: Option<&Name>) -> Value {
    let list = |list: &PrefixList| {
        let entry = |(sequence, entry): (&u32, &config::model::PrefixListEntry)| {
            let mut out = Map::new();
            out.insert("sequenceNumber".into(), (*sequence).into());
            out.insert("type".into(), entry.action.as_str().into());
            out.insert("prefix".into(), entry.prefix.to_string().into());
            entry.ge.iter().for_each(|ge| drop(out.insert("minimumPrefixLength".into(), (*ge).into())));
            entry.le.iter().for_each(|le| drop(out.insert("maximumPrefixLength".into(), (*le).into())));
            Value::Object(out)
        };
        let address_family = if family == Family::Ipv4Unicast { "IPv4" } else { "IPv6" };
        json!({
            "addressFamily": address_family,
            "description": list.description,
            "entries": list.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    };
    let lists = of_family(&config.prefix_lists, family);
    let lists = lists.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    json!({ "BGP": Value::Object(lists.map(|(name, of)| (name.to_string(), list(of))).collect()) })
}

/// A list as rows of action and text, whatever it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// What stands before the name.
    pub kind: &'static str,
    /// Sequence numbers, actions, and what they are about.
    pub rules: Vec<(u32, Action, String)>,
}

fn rules<R>(rules: &Rules<R>, spell: impl Fn(&R) -> String) -> Vec<(u32, Action, String)> {
    rules.0.iter().map(|(sequence, (action, rule))| (*sequence, *action, spell(rule))).collect()
}

fn words<C: ToString>(values: &[C]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn communities<C: ToString>(
    all: &BTreeMap<Name, CommunityList<C>>,
    only: Option<&Name>,
    [standard, expanded]: [&'static str; 2],
) -> Vec<Listed> {
    let list = |(name, list): (&Name, &CommunityList<C>)| match list {
        CommunityList::Standard(of) => {
            Listed { name: name.clone(), kind: standard, rules: rules(of, |values| words(values)) }
        }
        CommunityList::Expanded(of) => {
            Listed { name: name.clone(), kind: expanded, rules: rules(of, Pattern::to_string) }
        }
    };
    chosen(all, only).map(list).collect()
}

/// `show bgp community-list`
pub fn community_lists(config: &Config, only: Option<&Name>) -> Vec<Listed> {
    communities(&config.community_lists, only, ["Named Community standard list", "Named Community expanded list"])
}

/// `show bgp large-community-list`
pub fn large_community_lists(config: &Config, only: Option<&Name>) -> Vec<Listed> {
    let kinds = ["Large community standard list", "Large community expanded list"];
    communities(&config.large_community_lists, only, kinds)
}

/// `show bgp extcommunity-list`
pub fn ext_community_lists(config: &Config, only: Option<&Name>) -> Vec<Listed> {
    let all: &BTreeMap<Name, CommunityList<ExtCommunityTerm>> = &config.ext_community_lists;
    communities(all, only, ["Named extended community standard list", "Named extended community expanded list"])
}

/// `show bgp as-path-access-list`
pub fn as_path_lists(config: &Config, only: Option<&Name>) -> Vec<Listed> {
    let list = |(name, of): (&Name, &Rules<Pattern>)| Listed {
        name: name.clone(),
        kind: "AS path access list",
        rules: rules(of, Pattern::to_string),
    };
    chosen(&config.as_path_lists, only).map(list).collect()
}

/// `show ip|ipv6 access-list`
pub fn access_lists(config: &Config, family: Family, only: Option<&Name>) -> Vec<Listed> {
    let kind = if family == Family::Ipv4Unicast { "Zebra IP access list" } else { "Zebra IPv6 access list" };
    let lists = of_family(&config.access_lists, family).into_iter();
    let lists = lists.filter(|(name, _)| only.is_none_or(|only| only == *name));
    let list =
        |(name, of): (&Name, &Rules<_>)| Listed { name: name.clone(), kind, rules: rules(of, ToString::to_string) };
    lists.map(list).collect()
}

/// Lists as text.
pub fn lists_text(lists: &[Listed]) -> String {
    let mut out = String::new();
    for Listed { name, kind, rules } in lists {
        let _ = writeln!(out, "{kind} {name}");
        for (_, action, text) in rules {
            let _ = writeln!(out, "    {} {text}", action.as_str());
        }
    }
    out
}

/// Lists as JSON.
pub fn lists_json(lists: &[Listed]) -> Value {
    let rule = |(sequence, action, text): &(u32, Action, String)| json!({ "sequenceNumber": sequence, "type": action.as_str(), "rule": text });
    let list = |list: &Listed| {
        let rules: Vec<Value> = list.rules.iter().map(rule).collect();
        (list.name.to_string(), json!({ "kind": list.kind, "rules": rules }))
    };
    Value::Object(lists.iter().map(list).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "ip prefix-list P description sites\nip prefix-list P permit 10.0.0.0/8 ge 16 le 24\nip prefix-list P deny any\n\
                    access-list A permit 10.0.0.0/8 exact-match\nbgp as-path access-list S deny _65001_\n\
                    bgp community-list standard C permit 65000:1 no-export\nbgp community-list expanded X permit 65000:.*\n\
                    route-map M permit 10\n description first\n match ip address prefix-list P\n set metric +5\n call N\n \
                    on-match goto 30\nroute-map N deny 5\n";
        config::parse(text).unwrap_or_else(|errors| panic!("{}", errors.render("test", text))).config
    }

    #[test]
    fn route_maps_are_shown_clause_by_clause() {
        let name = "M".parse().unwrap();
        assert_eq!(
            route_maps_text(&config(), Some(&name)),
            "BGP:\nroute-map: M\n permit, sequence 10\n  Description:\n    first\n  Match clauses:\n    ip address prefix-list P\n  \
             Set clauses:\n    metric +5\n  Call clause:\n    Call N\n  Action:\n    Goto 30\n"
        );
        let json = route_maps_json(&config(), None);
        let rule = &json["BGP"]["M"]["rules"][0];
        assert_eq!(
            (&rule["matchClauses"][0], &rule["setClauses"][0]),
            (&json!("ip address prefix-list P"), &json!("metric +5"))
        );
        assert_eq!(json["BGP"]["N"]["rules"][0]["type"], "deny");
    }

    #[test]
    fn lists_are_shown_with_their_rules() {
        let text = prefix_lists_text(&config(), Family::Ipv4Unicast, None);
        assert!(text.contains("ip prefix-list P: 2 entries") && text.contains("seq 10 deny any"), "{text}");
        let json = prefix_lists_json(&config(), Family::Ipv4Unicast, None);
        assert_eq!(json["BGP"]["P"]["entries"][0]["maximumPrefixLength"], 24);
        assert_eq!(prefix_lists_text(&config(), Family::Ipv6Unicast, None), "");
        let text = lists_text(&community_lists(&config(), None));
        assert_eq!(
            text,
            "Named Community standard list C\n    permit 65000:1 no-export\nNamed Community expanded list X\n    permit 65000:.*\n"
        );
        assert_eq!(lists_text(&as_path_lists(&config(), None)), "AS path access list S\n    deny _65001_\n");
        let lists = access_lists(&config(), Family::Ipv4Unicast, None);
        assert_eq!(lists_json(&lists)["A"]["rules"][0]["rule"], "10.0.0.0/8 exact-match");
    }
}
