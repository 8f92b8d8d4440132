//! What policy is configured, and the routes that a part of it picks out of the table.

use std::net::IpAddr;

use bgp_core::{
    policy::Action,
    rib::{PathAttrs, PathView, Source},
};
use config::{
    Config,
    command::{PolicyView, RouteFilter},
    model::{AliasedCommunity, Name},
};
use net_types::{Family, Prefix};
use rpc::Failure;

use super::{
    Output, not_found,
    routes::{self, Style},
};
use crate::{
    policy_setup::{self, Policies},
    show::policy::{self, Listed},
    state::State,
};

pub(super) async fn show(state: &State, what: PolicyView, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let config: &Config = &running.config;
    match what {
        PolicyView::RouteMaps(only) => {
            known(only.as_ref(), "route-map", |name| config.route_maps.contains_key(name))?;
            match json {
                true => out.json(&policy::route_maps_json(config, only.as_ref())).await,
                false => out.text(policy::route_maps_text(config, only.as_ref())).await,
            }
        }
        PolicyView::PrefixLists(family, only) => {
            let there = |name: &Name| config.prefix_lists.contains_key(&(family, name.clone()));
            known(only.as_ref(), "prefix-list", there)?;
            match json {
                true => out.json(&policy::prefix_lists_json(config, family, only.as_ref())).await,
                false => out.text(policy::prefix_lists_text(config, family, only.as_ref())).await,
            }
        }
        PolicyView::AccessLists(family, only) => {
            let lists = policy::access_lists(config, family, only.as_ref());
            listed(lists, only.as_ref(), "access-list", json, out).await
        }
        PolicyView::AsPathLists(only) => {
            let lists = policy::as_path_lists(config, only.as_ref());
            listed(lists, only.as_ref(), "as-path access-list", json, out).await
        }
        PolicyView::CommunityLists(only) => {
            let lists = policy::community_lists(config, only.as_ref());
            listed(lists, only.as_ref(), "community-list", json, out).await
        }
        PolicyView::LargeCommunityLists(only) => {
            let lists = policy::large_community_lists(config, only.as_ref());
            listed(lists, only.as_ref(), "large-community-list", json, out).await
        }
        PolicyView::ExtCommunityLists(only) => {
            let lists = policy::ext_community_lists(config, only.as_ref());
            listed(lists, only.as_ref(), "extcommunity-list", json, out).await
        }
        PolicyView::Routes(family, filter) => {
            let test = Test::new(config, family, filter)?;
            routes::passing(state, test.within, Style::rows(json), out, |prefix, path| test.passes(prefix, path)).await
        }
        PolicyView::RoutesInDetail(family, filter) => {
            let test = Test::new(config, family, filter)?;
            routes::passing(state, test.within, Style { json, detail: true }, out, |prefix, path| {
                test.passes(prefix, path)
            })
            .await
        }
    }
}

fn known(only: Option<&Name>, kind: &str, there: impl Fn(&Name) -> bool) -> Result<(), Failure> {
    match only {
        Some(name) if !there(name) => Err(not_found(format!("{kind} {name} is not defined"))),
        _ => Ok(()),
    }
}

async fn listed(lists: Vec<Listed>, only: Option<&Name>, kind: &str, json: bool, out: &Output) -> Result<(), Failure> {
    known(only, kind, |name| lists.iter().any(|list| list.name == *name))?;
    if json { out.json(&policy::lists_json(&lists)).await } else { out.text(policy::lists_text(&lists)).await }
}

/// Whether a path passes.
type Filter = Box<dyn Fn(&Prefix, &PathAttrs, Source) -> bool + Send + Sync>;

/// A filter, ready to be asked.
struct Test {
    within: Prefix,
    filter: Filter,
}

impl Test {
    fn new(config: &Config, family: Family, filter: RouteFilter) -> Result<Self, Failure> {
        let policies = Policies::new(config);
        let missing = |kind: &str, name: &Name| not_found(format!("{kind} {name} is not defined"));
        let everything = match family {
            Family::Ipv4Unicast | Family::Ipv4Vpn => Prefix::DEFAULT_V4,
            Family::Ipv6Unicast | Family::Ipv6Vpn => Prefix::DEFAULT_V6,
        };
        let within = match &filter {
            RouteFilter::LongerPrefixes(prefix) => *prefix,
            _ => everything,
        };
        let filter: Filter = match filter {
            RouteFilter::Communities { all, exact } => {
                let all: Vec<_> = all.iter().map(policy_setup::community).collect();
                Box::new(move |_, attrs, _| {
                    let there = &attrs.attributes.communities;
                    all.iter().all(|one| there.contains(one)) && (!exact || there.iter().all(|one| all.contains(one)))
                })
            }
            RouteFilter::CommunityList { name, exact } => {
                let list = policies.community_list(&name).ok_or_else(|| missing("community-list", &name))?;
                Box::new(move |_, attrs, _| match exact {
                    true => list.permits_exactly(&attrs.attributes.communities),
                    false => list.permits(&attrs.attributes.communities),
                })
            }
            RouteFilter::LargeCommunities(all) => {
                let all: Vec<_> = all.iter().map(policy_setup::large_community).collect();
                Box::new(move |_, attrs, _| all.iter().all(|one| attrs.attributes.large_communities.contains(one)))
            }
            RouteFilter::LargeCommunityList(name) => {
                let list =
                    policies.large_community_list(&name).ok_or_else(|| missing("large-community-list", &name))?;
                Box::new(move |_, attrs, _| list.permits(&attrs.attributes.large_communities))
            }
            RouteFilter::Alias(name) => {
                let mut aliases = config.community_aliases.iter();
                match aliases.find(|(_, known)| **known == name).map(|(community, _)| *community) {
                    Some(AliasedCommunity::Standard(known)) => {
                        let wanted = policy_setup::community(&known);
                        Box::new(move |_, attrs, _| attrs.attributes.communities.contains(&wanted))
                    }
                    Some(AliasedCommunity::Large(known)) => {
                        let wanted = policy_setup::large_community(&known);
                        Box::new(move |_, attrs, _| attrs.attributes.large_communities.contains(&wanted))
                    }
                    None => return Err(missing("community alias", &name)),
                }
            }
            RouteFilter::Regexp(pattern) => {
                Box::new(move |_, attrs, _| pattern.regex().is_match(&attrs.attributes.as_path.to_string()))
            }
            RouteFilter::FilterList(name) => {
                known(Some(&name), "as-path access-list", |name| config.as_path_lists.contains_key(name))?;
                let list = policies.as_path_list(&name);
                Box::new(move |_, attrs, _| list.evaluate(&attrs.attributes.as_path.to_string()) == Action::Permit)
            }
            RouteFilter::PrefixList(name) => {
                let there = |name: &Name| config.prefix_lists.contains_key(&(family, name.clone()));
                known(Some(&name), "prefix-list", there)?;
                let list = policies.prefix_list(family, &name);
                Box::new(move |prefix, _, _| list.evaluate(prefix) == Action::Permit)
            }
            RouteFilter::RouteMap(name) => {
                known(Some(&name), "route-map", |name| config.route_maps.contains_key(name))?;
                let map = policies.of_map(Some(&name));
                Box::new(move |prefix, attrs, source| {
                    let source = match source {
                        Source::Local(source) => Some(source),
                        Source::Peer(_) => None,
                    };
                    map.judge(prefix, attrs, source).is_some()
                })
            }
            RouteFilter::CidrOnly => Box::new(|prefix, _, _| !is_classful(prefix)),
            RouteFilter::LongerPrefixes(_) => Box::new(|_, _, _| true),
        };
        Ok(Self { within, filter })
    }

    fn passes(&self, prefix: &Prefix, path: &PathView) -> bool {
        let attrs = path.effective.as_ref().unwrap_or(&path.received);
        (self.filter)(prefix, attrs, path.source)
    }
}

/// Whether a prefix is a whole network of class A, B or C.
fn is_classful(prefix: &Prefix) -> bool {
    let IpAddr::V4(address) = prefix.address() else { return false };
    let class = match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        192..=223 => 24,
        _ => return false,
    };
    prefix.bits() == class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_their_lengths() {
        for (text, classful) in [
            ("10.0.0.0/8", true),
            ("10.0.0.0/16", false),
            ("172.16.0.0/16", true),
            ("192.0.2.0/24", true),
            ("::/0", false),
        ] {
            assert_eq!(is_classful(&text.parse().unwrap()), classful, "{text}");
        }
    }
}
