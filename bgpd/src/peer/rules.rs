//! From the configuration to what becomes of a neighbor's routes on the way, besides policy.

use bgp_core::rib::{self, AddPaths, Alias, RemovePrivate, Rules, Unchanged, Withheld};
use bgp_wire::Role;
use config::model::{self, AllowOwnAs, LocalAs, RemovePrivateAs, RouteSettings};

/// What is configured about the routes of one family.
pub fn rules(settings: &RouteSettings) -> Rules {
    let withheld = |send: Option<bool>| send == Some(false);
    Rules {
        reflector_client: settings.route_reflector_client == Some(true),
        allow_own_as: match settings.allow_own_as {
            None | Some(AllowOwnAs::No) => rib::AllowOwnAs::default(),
            Some(AllowOwnAs::Times(times)) => rib::AllowOwnAs::Times(times),
            Some(AllowOwnAs::Origin) => rib::AllowOwnAs::Origin,
        },
        remove_private: match settings.remove_private_as {
            None | Some(RemovePrivateAs::No) => None,
            Some(RemovePrivateAs::Yes { all, replace }) => Some(RemovePrivate { all, replace }),
        },
        as_override: settings.as_override == Some(true),
        unchanged: {
            // RFC 7947 §2.2: a route server is on nobody's path.
            let server = settings.route_server_client == Some(true);
            let unchanged = settings.attribute_unchanged.unwrap_or_default();
            Unchanged {
                as_path: server || unchanged.as_path,
                next_hop: server || unchanged.next_hop,
                med: server || unchanged.med,
            }
        },
        // RFC 7947 §2.3.2
        own_view: settings.route_server_client == Some(true) && settings.route_server_best_only != Some(true),
        best_external: settings.advertise_best_external == Some(true),
        withheld: Withheld {
            standard: withheld(settings.send_standard),
            extended: withheld(settings.send_extended),
            large: withheld(settings.send_large),
        },
    }
}

/// Which paths a neighbor is sent that takes several for a prefix. As in FRR the last word is that for all of them.
pub fn add_path(settings: &RouteSettings) -> Option<AddPaths> {
    match (settings.addpath_tx_all_paths, settings.addpath_tx_bestpath_per_as) {
        (Some(true), _) => Some(AddPaths::All),
        (_, Some(true)) => Some(AddPaths::BestPerNeighbor),
        _ => None,
    }
}

/// `local-as`
pub fn alias(local_as: LocalAs) -> Alias {
    let LocalAs { asn, no_prepend, replace_as } = local_as;
    Alias { asn, prepend_received: !no_prepend, keep_own: !replace_as }
}

/// `local-role`
pub fn role(role: model::Role) -> Role {
    match role {
        model::Role::Provider => Role::Provider,
        model::Role::RouteServer => Role::RouteServer,
        model::Role::RouteServerClient => Role::RouteServerClient,
        model::Role::Customer => Role::Customer,
        model::Role::Peer => Role::Peer,
    }
}
