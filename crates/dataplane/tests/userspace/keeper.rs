//! What stays of a tunnel when its packet path ends, with and without a keeper.

use std::{sync::Arc, thread};

use crate::common::*;
use dataplane::{Dataplane, Sink, Userspace, keeper};
use sys::tun::{Offload, Tun};

/// Ends the path as the death of its process would: descriptors close, nothing is said.
fn end(site: &mut Site) {
    let sink = Arc::clone(&site.sink) as Arc<dyn Sink>;
    drop(std::mem::replace(&mut site.path, Userspace::new(sink, None)));
}

fn route_through_the_tunnel(site: &Site) {
    site.ip("nexthop add id 10 dev tun1");
    site.ip("route add 10.5.0.0/16 nhid 10");
}

#[test]
fn without_a_keeper_the_kernel_forgets_the_routes() {
    let (mut a, _b) = pair(1438, None);
    route_through_the_tunnel(&a);
    end(&mut a);
    assert!(a.ip("-o link show tun1").contains("NO-CARRIER"), "the device is persistent, its carrier is not");
    wait_for("the kernel takes the route", || !a.ip("route").contains("10.5.0.0/16"));
}

#[test]
fn with_a_keeper_interface_carrier_and_routes_stay_and_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper.sock");
    let server = thread::spawn({
        let socket = socket.clone();
        move || keeper::serve(&socket)
    });
    wait_for("the keeper listens", || keeper::Client::connect(&socket).is_ok());

    let (mut a, b) = pair(1438, Some(&socket));
    associate(&a, &b, 1);
    route_through_the_tunnel(&a);
    let before = a.ip("-o link show tun1");
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    crosses(&near, &far, b"before");

    end(&mut a);
    assert_eq!(a.ip("-o link show tun1"), before, "index, carrier and flags are as they were");
    assert!(a.ip("route").contains("10.5.0.0/16"));
    for _ in 0..20 {
        near.send_to(b"into the void", far.local_addr().unwrap()).unwrap();
    }

    // Another life may have asked the device for something else, which stays with it.
    let held = keeper::Client::connect(&socket).unwrap().adopt(&tunnel()).unwrap().unwrap();
    Tun::from_fd(held).unwrap().set_offload(Offload::default()).unwrap();
    a.path = Userspace::new(Arc::clone(&a.sink) as Arc<dyn Sink>, Some(door(&socket)));
    open_wan(&a);
    a.open_tunnel(1438);
    assert_eq!(a.ip("-o link show tun1"), before);
    wait_for("what waited is dropped", || a.tunnel_stats().dropped_no_sa >= 20);
    associate(&a, &b, 2);
    crosses(&near, &far, b"after");
    crosses(&far, &near, b"and back");

    a.path.remove_tunnel(&tunnel(), false);
    assert!(!a.ip("-o link").contains("tun1"), "neither device nor keeping is left");
    server.join().unwrap().unwrap();
}
