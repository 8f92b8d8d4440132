//! The commands about policy: what is configured, and the routes that a part of it picks out of the table.

use net_types::{Family, Prefix};

use super::{Command, Owner, Row, json, row};
use crate::{
    grammar::{Args, Complaint},
    model::{Community, LargeCommunity, Name, Pattern},
};

/// What is shown of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyView {
    /// `show route-map`
    RouteMaps(Option<Name>),
    /// `show ip|ipv6 prefix-list`
    PrefixLists(Family, Option<Name>),
    /// `show ip|ipv6 access-list`
    AccessLists(Family, Option<Name>),
    /// `show bgp as-path-access-list`
    AsPathLists(Option<Name>),
    /// `show bgp community-list`
    CommunityLists(Option<Name>),
    /// `show bgp large-community-list`
    LargeCommunityLists(Option<Name>),
    /// `show bgp extcommunity-list`
    ExtCommunityLists(Option<Name>),
    /// `show bgp ipv4|ipv6 unicast FILTER`: routes with a path that passes.
    Routes(Family, RouteFilter),
    /// The same with every route as `show bgp PREFIX` has it.
    RoutesInDetail(Family, RouteFilter),
}

/// Which paths of a table are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteFilter {
    /// `community COMMUNITY… [exact-match]`
    Communities {
        /// All of them must be there.
        all: Vec<Community>,
        /// And no others.
        exact: bool,
    },
    /// `community-list NAME [exact-match]`
    CommunityList {
        /// The list.
        name: Name,
        /// No others may be there.
        exact: bool,
    },
    /// `large-community COMMUNITY…`
    LargeCommunities(Vec<LargeCommunity>),
    /// `large-community-list NAME`
    LargeCommunityList(Name),
    /// `alias NAME`: a community by its alias.
    Alias(Name),
    /// `regexp REGEX`: over the AS path.
    Regexp(Pattern),
    /// `filter-list NAME`
    FilterList(Name),
    /// `prefix-list NAME`
    PrefixList(Name),
    /// `route-map NAME`
    RouteMap(Name),
    /// `cidr-only`: prefixes whose length is not that of their class.
    CidrOnly,
    /// `PREFIX longer-prefixes`
    LongerPrefixes(Prefix),
}

/// Rows of a filter of a table, with the family before or behind.
macro_rules! filter {
    ($rest:literal, $help:literal, $read:expr) => {
        [
            row(
                Owner::Bgpd,
                concat!("show (ip|ipv6) bgp [vrf (all|default)] [(ipv4|ipv6) [unicast]] ", $rest),
                $help,
                $read,
            ),
            row(Owner::Bgpd, concat!("show bgp [vrf (all|default)] (ipv4|ipv6) [unicast] ", $rest), $help, $read),
        ]
    };
}

pub(super) const LISTS: &[Row] = &[
    row(Owner::Bgpd, "show route-map [NAME] [json]", "Route-maps", |args| {
        view(args, PolicyView::RouteMaps(args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show (ip|ipv6) prefix-list [NAME] [json]", "Prefix-lists", |args| {
        view(args, PolicyView::PrefixLists(family(args), args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show (ip|ipv6) access-list [NAME] [json]", "Access-lists", |args| {
        view(args, PolicyView::AccessLists(family(args), args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show bgp as-path-access-list [NAME] [detail] [json]", "AS path access-lists", |args| {
        view(args, PolicyView::AsPathLists(args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show bgp community-list [NAME] [detail] [json]", "Community-lists", |args| {
        view(args, PolicyView::CommunityLists(args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show bgp large-community-list [NAME] [detail] [json]", "Large-community-lists", |args| {
        view(args, PolicyView::LargeCommunityLists(args.opt("NAME")?))
    }),
    row(Owner::Bgpd, "show bgp extcommunity-list [NAME] [detail] [json]", "Extcommunity-lists", |args| {
        view(args, PolicyView::ExtCommunityLists(args.opt("NAME")?))
    }),
];

const COMMUNITY: [Row; 2] =
    filter!("community COMMUNITY... [exact-match] [json]", "Routes with these communities", |args| {
        routes(args, RouteFilter::Communities { all: args.all("COMMUNITY")?, exact: args.has("exact-match") })
    });
const COMMUNITY_LIST: [Row; 2] =
    filter!("community-list NAME [exact-match] [json]", "Routes whose communities a list permits", |args| {
        routes(args, RouteFilter::CommunityList { name: args.get("NAME")?, exact: args.has("exact-match") })
    });
const LARGE_COMMUNITY: [Row; 2] =
    filter!("large-community LARGE-COMMUNITY... [json]", "Routes with these large communities", |args| {
        routes(args, RouteFilter::LargeCommunities(args.all("LARGE-COMMUNITY")?))
    });
const LARGE_COMMUNITY_LIST: [Row; 2] =
    filter!("large-community-list NAME [json]", "Routes whose large communities a list permits", |args| {
        routes(args, RouteFilter::LargeCommunityList(args.get("NAME")?))
    });
const ALIAS: [Row; 2] = filter!("alias NAME [json [detail]]", "Routes with the community of this alias", |args| {
    let filter = RouteFilter::Alias(args.get("NAME")?);
    let of = if args.has("detail") { PolicyView::RoutesInDetail } else { PolicyView::Routes };
    view(args, of(family(args), filter))
});
const REGEXP: [Row; 2] = filter!("regexp REGEX", "Routes whose AS path the expression matches", |args| {
    // The expression takes the rest of the line, as in FRR; what is asked for besides stands at its end.
    let whole: String = args.get("REGEX")?;
    let (text, as_json) = whole.strip_suffix(" json").map_or((whole.as_str(), false), |text| (text, true));
    let pattern = text.parse().map_err(|error| args.complain("REGEX", error))?;
    Ok(Command::Policy { what: PolicyView::Routes(family(args), RouteFilter::Regexp(pattern)), json: as_json })
});
const FILTER_LIST: [Row; 2] = filter!("filter-list NAME [json]", "Routes whose AS path a list permits", |args| {
    routes(args, RouteFilter::FilterList(args.get("NAME")?))
});
const PREFIX_LIST: [Row; 2] = filter!("prefix-list NAME [json]", "Routes that a list permits", |args| {
    routes(args, RouteFilter::PrefixList(args.get("NAME")?))
});
const ROUTE_MAP: [Row; 2] = filter!("route-map NAME [json]", "Routes that a route-map permits", |args| {
    routes(args, RouteFilter::RouteMap(args.get("NAME")?))
});
const CIDR_ONLY: [Row; 2] = filter!("cidr-only [json]", "Routes whose length is not that of their class", |args| {
    routes(args, RouteFilter::CidrOnly)
});
const LONGER: [Row; 2] = filter!("(PREFIX4|PREFIX6) longer-prefixes [json]", "Routes within a prefix", |args| {
    let prefix: Prefix = match args.opt("PREFIX4")? {
        Some(prefix) => prefix,
        None => args.get("PREFIX6")?,
    };
    if prefix.family() != family(args) {
        return Err(Complaint::new(format!("{prefix} is no prefix of {}", family(args))));
    }
    routes(args, RouteFilter::LongerPrefixes(prefix))
});

pub(super) const FILTERS: [&[Row]; 11] = [
    &COMMUNITY,
    &COMMUNITY_LIST,
    &LARGE_COMMUNITY,
    &LARGE_COMMUNITY_LIST,
    &ALIAS,
    &REGEXP,
    &FILTER_LIST,
    &PREFIX_LIST,
    &ROUTE_MAP,
    &CIDR_ONLY,
    &LONGER,
];

fn family(args: &Args<'_>) -> Family {
    if args.has("ipv6") { Family::Ipv6Unicast } else { Family::Ipv4Unicast }
}

fn view(args: &Args<'_>, what: PolicyView) -> Result<Command, Complaint> {
    Ok(Command::Policy { what, json: json(args) })
}

fn routes(args: &Args<'_>, filter: RouteFilter) -> Result<Command, Complaint> {
    view(args, PolicyView::Routes(family(args), filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(line: &str) -> (PolicyView, bool) {
        match Command::parse(line) {
            Ok(Command::Policy { what, json }) => (what, json),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lists_and_the_routes_that_they_pick_are_told_apart() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let (v4, v6) = (Family::Ipv4Unicast, Family::Ipv6Unicast);
        assert_eq!(what("show route-map json"), (PolicyView::RouteMaps(None), true));
        assert_eq!(what("show ipv6 prefix-list X"), (PolicyView::PrefixLists(v6, Some(name("X"))), false));
        assert_eq!(what("show bgp community-list X"), (PolicyView::CommunityLists(Some(name("X"))), false));
        let filter = RouteFilter::CommunityList { name: name("X"), exact: true };
        assert_eq!(what("show bgp ipv4 unicast community-list X exact-match"), (PolicyView::Routes(v4, filter), false));
        let filter = RouteFilter::Regexp("_65001_ 2$".parse().unwrap());
        assert_eq!(what("show ip bgp regexp _65001_ 2$ json"), (PolicyView::Routes(v4, filter), true));
        let filter = RouteFilter::Communities { all: vec!["65000:1".parse().unwrap()], exact: false };
        assert_eq!(what("show ip bgp community 65000:1 json"), (PolicyView::Routes(v4, filter), true));
        let filter = RouteFilter::LongerPrefixes("2001:db8::/32".parse().unwrap());
        assert_eq!(
            what("show bgp ipv6 unicast 2001:db8::/32 longer-prefixes"),
            (PolicyView::Routes(v6, filter), false)
        );
        assert!(Command::parse("show bgp ipv4 2001:db8::/32 longer-prefixes").is_err());
        assert!(Command::parse("show ip bgp regexp (").is_err());
    }
}
