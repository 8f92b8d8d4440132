//! What routes say besides naming an object: the source address of our own packets, and that senders are told of drops.

use fib::{Backend, Fib, Nexthop, PathKey, PathList, Resync, Target, Twin};
use net_types::Prefix;

const PATH: PathKey = PathKey { source: 1, ifindex: 2, gateway: None };

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn with(source: &str) -> PathList {
    PathList::ordered([PATH]).with_source(Some(source.parse().unwrap()))
}

/// Writes and reads until there is nothing left to do; how many changes that took.
fn settle(fib: &mut Fib<Twin>) -> u64 {
    let before = fib.backend_mut().applied();
    loop {
        let resync = fib.resync_step().unwrap();
        let written = fib.flush(64).written + fib.migrate(64).written;
        if written == 0 && resync == Resync::Idle && fib.is_settled() {
            return fib.backend_mut().applied() - before;
        }
    }
}

fn source(fib: &mut Fib<Twin>, text: &str) -> Option<String> {
    match fib.backend_mut().target(&prefix(text)) {
        Some(Target::Through(_, source)) => source.map(|source| source.to_string()),
        Some(Target::Unreachable) | None => None,
    }
}

#[test]
fn the_source_address_goes_with_the_route_and_moves_no_packet() {
    let mut fib = Fib::new(Twin::default());
    for text in ["10.1.0.0/16", "10.2.0.0/16"] {
        fib.set_path_list(prefix(text), &with("192.0.2.1"));
    }
    settle(&mut fib);
    assert_eq!(source(&mut fib, "10.1.0.0/16").as_deref(), Some("192.0.2.1"));
    assert_eq!(fib.backend_mut().nexthops(), 1, "shared by all routes that say the same");
    fib.set_path_list(prefix("10.1.0.0/16"), &with("192.0.2.9"));
    assert!(fib.stats().urgent > 0, "what is written differs although packets go the same way");
    settle(&mut fib);
    assert_eq!(source(&mut fib, "10.1.0.0/16").as_deref(), Some("192.0.2.9"));
    assert_eq!(source(&mut fib, "10.2.0.0/16").as_deref(), Some("192.0.2.1"));
    fib.set_route(prefix("10.1.0.0/16"), &[PATH]);
    settle(&mut fib);
    assert_eq!(source(&mut fib, "10.1.0.0/16"), None);
}

#[test]
fn a_restart_takes_over_what_says_the_same_and_writes_what_does_not() {
    let mut fib = Fib::new(Twin::default());
    fib.set_path_list(prefix("10.1.0.0/16"), &with("192.0.2.1"));
    settle(&mut fib);
    let twin = std::mem::take(fib.backend_mut());
    let mut fib = Fib::new(twin);
    fib.adopt().unwrap();
    fib.set_path_list(prefix("10.1.0.0/16"), &with("192.0.2.1"));
    assert_eq!((settle(&mut fib), fib.sweep()), (0, 0), "nothing to do");
    let twin = std::mem::take(fib.backend_mut());
    let mut fib = Fib::new(twin);
    fib.adopt().unwrap();
    fib.set_path_list(prefix("10.1.0.0/16"), &with("192.0.2.9"));
    settle(&mut fib);
    assert_eq!(source(&mut fib, "10.1.0.0/16").as_deref(), Some("192.0.2.9"));
}

#[test]
fn another_source_address_is_mended_when_the_table_is_read() {
    let mut fib = Fib::new(Twin::default());
    fib.set_path_list(prefix("10.1.0.0/16"), &with("192.0.2.1"));
    settle(&mut fib);
    let Some(Target::Through(id, _)) = fib.backend_mut().target(&prefix("10.1.0.0/16")) else { panic!("no route") };
    let other = fib::Change::PutRoute(prefix("10.1.0.0/16"), Target::Through(id, None));
    fib.backend_mut().apply(&[other]).unwrap();
    fib.request_resync();
    settle(&mut fib);
    assert_eq!(source(&mut fib, "10.1.0.0/16").as_deref(), Some("192.0.2.1"));
}

#[test]
fn senders_are_told_where_that_is_asked_for() {
    let mut fib = Fib::new(Twin::default());
    fib.set_path_list(prefix("10.1.0.0/16"), &PathList::unreachable());
    settle(&mut fib);
    assert_eq!(fib.backend_mut().target(&prefix("10.1.0.0/16")), Some(Target::Unreachable));
    assert_eq!(fib.backend_mut().nexthops(), 0, "that takes no object");
    fib.request_resync();
    assert_eq!(settle(&mut fib), 0, "it is as it should be");
    fib.set_route(prefix("10.1.0.0/16"), &[PATH]);
    settle(&mut fib);
    let by_path = fib.backend_mut().forwarding(&prefix("10.1.0.0/16")).unwrap();
    assert!(by_path.nexthops().all(|it| matches!(it.nexthop, Nexthop::Via { .. })));
    fib.set_path_list(prefix("10.1.0.0/16"), &PathList::unreachable());
    settle(&mut fib);
    assert_eq!(fib.backend_mut().target(&prefix("10.1.0.0/16")), Some(Target::Unreachable));
    assert_eq!(fib.backend_mut().nexthops(), 0);
    fib.remove_route(prefix("10.1.0.0/16"));
    settle(&mut fib);
    assert_eq!((fib.backend_mut().target(&prefix("10.1.0.0/16")), fib.stats().routes), (None, 0));
}
