//! Which paths of a prefix a peer may be told of: the best, and for some who may not be told of that, another.
//!
//! A route server that only ever offers its best path hides the others from a client whom policy keeps from that one (RFC
//! 7947 §2.3). So each client is told the first path, in order of preference, that its export policy permits and that is
//! not its own (§2.3.2): what a decision of its own among all permitted paths would come to, since every client's would
//! compare them alike. And a router whose best path is an internal one, which internal peers do not pass on to each other,
//! can tell them its best external one, so that all of them have it ready (draft-ietf-idr-best-external).

use net_types::Prefix;

use super::{Teller, Terms};
use crate::{
    decision::{self, Candidate},
    rib::{Path, conditions, state::Shared, table::Entry},
};

/// Of which paths a peer may be told besides the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alternatives {
    /// Of none.
    #[default]
    None,
    /// Of the first that policy permits and that is not its own (`route-server-client`).
    Permitted,
    /// Of the first that may go to internal peers, where the best may not for being internal itself
    /// (`advertise-best-external`).
    External,
}

/// The paths of an entry in the order in which those with `terms` are to be told of one; it is for the caller to see
/// which of them may go out. Paths behind the first are compared only if somebody asks for one.
pub(super) fn offers<'a>(
    shared: &'a Shared,
    entry: &'a Entry,
    prefix: &Prefix,
    terms: &'a Terms,
) -> impl Iterator<Item = Path> + 'a {
    let first = conditions::told(entry, prefix, terms.default_route.is_some());
    let lost = || terms.tells_lost().then(|| shared.tunnel_lost(entry)).flatten();
    let first = first.or_else(lost);
    let best = first.filter(|path| entry.paths.len() > 1 && path.source != conditions::default_slot());
    let others = move || match (best, terms.alternatives) {
        (None, _) | (_, Alternatives::None) => Vec::new(),
        (Some(best), Alternatives::Permitted) => behind(shared, entry, &best, terms),
        (Some(best), Alternatives::External) => {
            let passed_on = |path: &Path| terms.passes_on(Teller::of(shared, path, terms.family));
            match passed_on(&best) {
                true => Vec::new(), // whatever policy says of it
                false => behind(shared, entry, &best, terms).into_iter().find(passed_on).into_iter().collect(),
            }
        }
    };
    first.into_iter().chain(std::iter::once_with(others).flatten())
}

/// The usable paths of an entry behind the best, in order of preference.
fn behind(shared: &Shared, entry: &Entry, best: &Path, terms: &Terms) -> Vec<Path> {
    let others = entry.paths.iter().filter(|path| (path.source, path.id) != (best.source, best.id));
    let (candidates, paths): (Vec<Candidate<'_>>, Vec<Path>) =
        others.filter_map(|path| Some((shared.candidate(terms.family, path)?, *path))).unzip();
    decision::ranked(&candidates, &shared.decision).into_iter().map(|at| paths[at]).collect()
}
