//! GRE interfaces, whose packets are sealed in transport mode: nothing of theirs is in the clear at any time, either way.

use std::net::{IpAddr, Ipv4Addr};

use dataplane::{Dataplane, Df, Dscp, PacketPolicy, Path};

use crate::common::*;

/// What a site has received since it began, by protocol of the outer header.
struct Wire(std::process::Child);

impl Wire {
    /// Counts at the site's outer interface.
    fn of(site: &Site) -> Self {
        let file = std::fs::File::create(Self::file(site)).unwrap();
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-i", "wan0", "-nn", "-l", "-Z", "root", "ip or ip6"]).stdout(file);
        command.stderr(std::process::Stdio::piped());
        let mut child = site.ns().run(|| command.spawn().unwrap());
        let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0, "tcpdump has ended");
        }
        // What it says later has to go somewhere.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }

    fn file(site: &Site) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("hf-gre-wire-{}-{}", std::process::id(), site.number()))
    }

    /// What was seen up to a packet that comes after all else.
    fn seen(mut self, site: &Site, other: &Site) -> String {
        let mark = "198.51.100.99";
        other.ip(&format!("route replace {mark}/32 dev wan0"));
        other.ip(&format!("neigh replace {mark} lladdr 02:00:00:00:00:99 dev wan0"));
        let socket = other.ns().run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
        let text = || std::fs::read_to_string(Self::file(site)).unwrap();
        wait_for("the capture to be complete", || {
            socket.send_to(b"the end", (mark, 9)).unwrap();
            text().contains(mark)
        });
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let seen = text();
        std::fs::remove_file(Self::file(site)).unwrap();
        seen
    }
}

/// Waits until a site has dropped so many for want of an association.
fn dropped(site: &Site, count: u64) {
    wait_for("the drop", || site.stats().dropped_no_sa >= count);
}

fn gre_lines(seen: &str) -> usize {
    seen.lines().filter(|line| line.contains("GRE")).count()
}

#[test]
fn gre_passes_sealed_in_both_families_and_is_counted() {
    let Some((a, b)) = gre_pair(None) else { return };
    let wire = Wire::of(&b);
    associate(&a, &b, 1);
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
        assert_eq!(exchange(from, to, true, 10), 10);
    }
    let stats = a.stats();
    assert!(stats.inbound[0].packets >= 20 && stats.outbound[0].packets >= 20, "{stats:?}");
    assert!(stats.sent_packets >= 20 && stats.received_packets >= 20 && stats.idle.is_some(), "{stats:?}");
    assert!(a.ip("-d link show tun1").contains("key 0.0.0.7"), "{}", a.ip("-d link show tun1"));
    assert!(a.ip("xfrm state").contains("mode transport"), "{}", a.ip("xfrm state"));
    let seen = wire.seen(&b, &a);
    assert_eq!(gre_lines(&seen), 0, "{seen}");
    assert!(seen.contains("UDP-encap: ESP"), "{seen}");
}

#[test]
fn nothing_goes_in_the_clear_without_an_association() {
    let Some((a, b)) = gre_pair(None) else { return };
    let wire = Wire::of(&b);
    send(&a, &b, 5); // before there was one,
    dropped(&a, 5);
    associate(&a, &b, 1);
    assert_eq!(exchange(&a, &b, false, 1), 1);
    a.path.remove_outbound(&tunnel(), spi(0x1001)); // after,
    send(&a, &b, 5);
    dropped(&a, 10);
    associate(&a, &b, 2);
    assert_eq!(exchange(&a, &b, false, 1), 1);
    let a = a.without_process(); // without the process, when somebody takes the association out,
    a.ns()
        .run(|| assert!(std::process::Command::new("ip").args(["xfrm", "state", "flush"]).status().unwrap().success()));
    let (sender, address) = (a.socket(false), (b.inner(false), 9));
    for _ in 0..5 {
        let _blocked = sender.send_to(b"nobody waits for this", address);
    }
    let a = a.with_bare_process(None);
    a.add_gre(Some(a.outer()), b.outer(), PacketPolicy::default()).unwrap();
    send(&a, &b, 5); // and with the next one, which has taken the interface up.
    dropped(&a, 15);
    let seen = wire.seen(&b, &a);
    assert_eq!(gre_lines(&seen), 0, "{seen}");
}

#[test]
fn gre_that_comes_in_the_clear_is_not_taken() {
    let Some((a, b)) = gre_pair(None) else { return };
    // Another program's interface with the same ends: what it sends is in the clear.
    b.path.remove_tunnel(&tunnel(), false);
    b.ip(&format!("link add clear type gre local {} remote {} key 7", b.outer(), a.outer()));
    b.ip("link set clear up");
    b.ip(&format!("addr add {}/30 dev clear", b.inner(false)));
    let receiver = a.socket(false);
    receiver.set_read_timeout(Some(std::time::Duration::from_millis(10))).unwrap();
    let (sender, address) = (b.socket(false), receiver.local_addr().unwrap());
    let refused = || {
        let text = a.ns().run(|| std::fs::read_to_string("/proc/thread-self/net/xfrm_stat").unwrap());
        let line = text.lines().find(|line| line.starts_with("XfrmInPolBlock") || line.starts_with("XfrmInNoPols"));
        let block = text.lines().find(|line| line.starts_with("XfrmInPolBlock")).or(line).unwrap();
        block.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    let mut buffer = [0; 64];
    wait_for("the policy to have refused some", || {
        sender.send_to(b"in the clear", address).unwrap();
        assert!(receiver.recv_from(&mut buffer).is_err(), "it was taken");
        refused() >= 5
    });
    // Nor with an association: what it protects has to come by it.
    accept(&b, &a, 0x2001, 1);
    for _ in 0..5 {
        sender.send_to(b"in the clear", address).unwrap();
        assert!(receiver.recv_from(&mut buffer).is_err(), "it was taken");
    }
}

#[test]
fn a_switch_between_associations_loses_nothing() {
    let Some((a, b)) = gre_pair(None) else { return };
    associate(&a, &b, 1);
    associate(&a, &b, 2);
    let mut received = 0;
    for turn in 0..10u32 {
        a.path.use_outbound(&tunnel(), spi(0x1001 + turn % 2)).unwrap();
        received += exchange(&a, &b, false, 20);
    }
    assert_eq!(received, 200);
    let stats = a.stats();
    assert!(stats.outbound.iter().all(|sa| sa.packets >= 100), "each has had its turns: {stats:?}");
}

#[test]
fn the_interface_and_its_associations_outlive_the_process_and_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper.sock");
    let server = std::thread::spawn({
        let socket = socket.clone();
        move || dataplane::keeper::serve(&socket)
    });
    wait_for("the keeper", || dataplane::keeper::Client::connect(&socket).is_ok());
    let Some((a, b)) = gre_pair(Some(&socket)) else { return };
    associate(&a, &b, 1);
    let index = a.ip("-o link show tun1");
    let a = a.without_process();
    assert_eq!(exchange(&b, &a, false, 10), 10);
    let a = a.with_bare_process(Some(&socket));
    a.add_gre(Some(a.outer()), b.outer(), PacketPolicy::default()).unwrap();
    assert_eq!(index.split(':').next(), a.ip("-o link show tun1").split(':').next(), "the same interface");
    assert_eq!(exchange(&a, &b, true, 10), 10);
    associate(&a, &b, 2);
    b.path.use_outbound(&tunnel(), spi(0x2002)).unwrap();
    assert_eq!(exchange(&a, &b, false, 10), 10);
    wait_for("the old ones' end", || !a.ip("xfrm state").contains("0x00001001"));
    assert!(!a.ip("xfrm state").contains("0x00002001"));
    assert_eq!(exchange(&b, &a, false, 10), 10);
    a.path.remove_tunnel(&tunnel(), false);
    assert_eq!(a.ip("xfrm state").trim(), "");
    assert!(!a.ip("xfrm policy").contains("proto gre"), "{}", a.ip("xfrm policy"));
    assert!(!a.ip("link").contains("tun1"));
    a.path.remove_wan(&wan()); // the keeper's last
    server.join().unwrap().unwrap();
}

#[test]
fn the_interface_has_the_address_of_the_association_in_use() {
    let Some((a, b)) = joined(None) else { return };
    // The link has no address yet.
    a.add_gre(None, b.outer(), PacketPolicy::default()).unwrap();
    b.add_gre(Some(b.outer()), a.outer(), PacketPolicy::default()).unwrap();
    for site in [&a, &b] {
        site.address_tunnel();
    }
    let wire = Wire::of(&b);
    send(&a, &b, 5);
    dropped(&a, 5);
    associate(&a, &b, 1);
    assert_eq!(exchange(&a, &b, false, 10), 10);
    // Another one: new associations, and the interface follows.
    let other: IpAddr = Ipv4Addr::new(198, 51, 100, 22).into();
    b.ip("addr add 198.51.100.22/24 dev wan0");
    a.add_gre(Some(a.outer()), other, PacketPolicy::default()).unwrap();
    let there = Path { remote: (other, 4500).into(), ..a.path_to(&b) };
    let back = Path { local: (other, 4500).into(), ..b.path_to(&a) };
    for (site, path, [spi_in, spi_out]) in [(&a, there, [0x2003, 0x1003]), (&b, back, [0x1003, 0x2003])] {
        let seed = |spi: u32| if spi == 0x1003 { 3 } else { 0x83 };
        site.path.add_inbound(&tunnel(), inbound(spi_in, seed(spi_in), path.clone())).unwrap();
        site.path.add_outbound(&tunnel(), outbound(spi_out, seed(spi_out), path)).unwrap();
    }
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
    }
    assert!(b.ip("-d link show tun1").contains("local 198.51.100.22"), "{}", b.ip("-d link show tun1"));
    assert!(b.ip("-d link show tun1").contains("mtu 1400"), "{}", b.ip("-d link show tun1"));
    let seen = wire.seen(&b, &a);
    assert_eq!(gre_lines(&seen), 0, "{seen}");
}

#[test]
fn outer_headers_say_what_the_policy_says() {
    let Some((a, b)) = gre_pair(None) else { return };
    associate(&a, &b, 1);
    for (policy, shown) in [
        (
            PacketPolicy { dscp: Dscp::Set(46), df: Df::Clear, ..PacketPolicy::default() },
            ["tos 0xb8", "ignore-df", "nopmtudisc"],
        ),
        (PacketPolicy { df: Df::Set, ..PacketPolicy::default() }, ["tos inherit", "noignore-df", "ttl 64"]),
        (PacketPolicy::default(), ["tos inherit", "noignore-df", "nopmtudisc"]),
    ] {
        a.add_gre(Some(a.outer()), b.outer(), policy).unwrap();
        let link = a.ip("-d link show tun1");
        for word in shown {
            assert!(link.contains(word) || word == "noignore-df" && !link.contains("ignore-df"), "{word}: {link}");
        }
        assert!((policy.df == Df::Set) != link.contains("nopmtudisc"), "{link}");
        assert_eq!(exchange(&a, &b, false, 5), 5);
    }
}

#[test]
fn an_interface_of_somebody_elses_is_left_alone() {
    let Some((a, b)) = joined(None) else { return };
    a.ip(&format!("link add tun1 type gre local {} remote {}", a.outer(), b.outer()));
    let error = a.add_gre(Some(a.outer()), b.outer(), PacketPolicy::default()).unwrap_err();
    assert!(error.to_string().contains("of kind \"gre\"; rename"), "{error}");
}

#[test]
fn both_kinds_of_interface_go_over_ipv6_outside() {
    let Some((a, b)) = joined(None) else { return };
    let outer = |site: &Site| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(site.number())]);
    for site in [&a, &b] {
        site.ip(&format!("addr add {}/64 dev wan0 nodad", outer(site)));
    }
    for (site, other) in [(&a, &b), (&b, &a)] {
        site.add_gre(Some(outer(site)), outer(other), PacketPolicy::default()).unwrap();
        site.address_tunnel();
    }
    let wire = Wire::of(&b);
    send(&a, &b, 5);
    dropped(&a, 5);
    for (site, other, [spi_in, spi_out]) in [(&a, &b, [0x2003, 0x1003]), (&b, &a, [0x1003, 0x2003])] {
        let path = Path { wan: wan(), local: (outer(site), 4500).into(), remote: (outer(other), 4500).into() };
        let seed = |spi: u32| if spi == 0x1003 { 3 } else { 0x83 };
        site.path.add_inbound(&tunnel(), inbound(spi_in, seed(spi_in), path.clone())).unwrap();
        site.path.add_outbound(&tunnel(), outbound(spi_out, seed(spi_out), path)).unwrap();
    }
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert_eq!(exchange(from, to, false, 10), 10);
        assert_eq!(exchange(from, to, true, 10), 10);
    }
    let seen = wire.seen(&b, &a);
    assert_eq!(gre_lines(&seen), 0, "{seen}");
}
