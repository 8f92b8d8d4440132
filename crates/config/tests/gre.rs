//! `tunnel mode gre`: what it means, what it cannot be beside.

use config::{
    model::{Config, Datapath, Encapsulation, Gre},
    parse,
};

const HEAD: &str = "ipsec identity i\n id x\n pre-shared-key file /k\nwan a\n interface e0\nwan b\n interface e1\n";

/// The head, and tunnels t1, t2, … with these further lines.
fn text(before: &str, tunnels: &[&str]) -> String {
    let tunnels = tunnels.iter().enumerate().map(|(at, lines)| {
        let lines: String = lines.split(';').map(|line| format!(" {}\n", line.trim())).collect();
        format!("ipsec tunnel t{}\n identity i\n{lines}", at + 1)
    });
    format!("{before}{HEAD}{}", tunnels.collect::<String>())
}

fn read(tunnels: &[&str]) -> Config {
    parse(&text("", tunnels)).unwrap().config
}

#[test]
fn a_tunnel_is_a_gre_interface_with_a_key_or_without() {
    let config = read(&[
        "remote 192.0.2.1; wan a; tunnel mode gre key 4294967295",
        "remote ::1; wan b; tunnel mode gre",
        "remote ::1; wan a",
    ]);
    let gre: Vec<_> = config.tunnels.values().map(|tunnel| tunnel.packets.gre).collect();
    assert_eq!(gre, [Some(Gre { key: Some(u32::MAX) }), Some(Gre { key: None }), None]);
    let wanted: Vec<_> = config.tunnels.values().map(|tunnel| tunnel.wanted_datapath(config.datapath)).collect();
    assert_eq!(wanted, [Datapath::Kernel, Datapath::Kernel, Datapath::Auto]);
    assert!(config.to_string().contains("\n tunnel mode gre key 4294967295\n"), "{config}");
}

#[test]
fn its_esp_goes_in_udp_only_where_there_is_a_nat_unless_said_otherwise() {
    for (lines, expected, printed) in [
        ("tunnel mode gre", Encapsulation::IfNat, ""),
        ("tunnel mode gre; encapsulation if-nat", Encapsulation::IfNat, ""),
        ("tunnel mode gre; encapsulation always", Encapsulation::Always, "encapsulation always"),
        ("mtu 1400", Encapsulation::Always, ""),
        ("encapsulation always", Encapsulation::Always, ""),
        ("encapsulation if-nat", Encapsulation::IfNat, "encapsulation if-nat"),
        ("tunnel mode gre; encapsulation always; no tunnel mode gre", Encapsulation::Always, ""),
    ] {
        let config = read(&[&format!("remote ::1; wan a; {lines}")]);
        let packets = config.tunnels.values().next().unwrap().packets;
        assert_eq!(packets.encapsulation(), expected, "{lines}");
        let said =
            config.to_string().lines().find(|line| line.contains("encapsulation")).unwrap_or_default().to_owned();
        assert_eq!(said.trim(), printed, "{lines}");
    }
}

#[test]
fn what_it_cannot_be_beside_is_refused_with_its_place() {
    for (before, tunnels, expected) in [
        ("", &["remote ::1; wan a; tunnel mode gre; datapath userspace"][..], "\"datapath userspace\" excludes that"),
        (
            "ipsec datapath userspace\n",
            &["remote ::1; wan a; tunnel mode gre"],
            "\"ipsec datapath userspace\" excludes that",
        ),
        (
            "",
            &["remote ::1; wan a; tunnel mode gre", "remote ::2; wan a; datapath userspace"],
            "share a wan have one datapath",
        ),
        (
            "",
            &["remote ::1; wan a; tunnel mode gre", "remote ::1; wan a b; tunnel mode gre key 7"],
            "ipsec tunnel t1 is a GRE interface to the same address",
        ),
        ("", &["remote any id y; initiate never; wan a; tunnel mode gre"], "needs the other end's address"),
        ("", &["remote ::1; wan a; tunnel mode gre; local-ts 10.0.0.0/8"], "leave \"local-ts\" and \"remote-ts\" out"),
        ("", &["remote ::1; wan a; tunnel mode gre; reverse-route"], "leave \"reverse-route\" out"),
        ("", &["remote ::1; wan a; tunnel mode gre key 4294967296"], "from 0 to 4294967295"),
        ("", &["remote ::1; wan a; tunnel mode ipip"], "gre"),
    ] {
        let refused = parse(&text(before, tunnels)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected:?} is not in {refused:?}");
        let place = refused.split(": error: ").next().unwrap();
        assert!(
            place.split(':').filter_map(|part| part.parse::<usize>().ok()).count() == 2,
            "line and column: {refused}"
        );
    }
    // The same address over another link, and another address over the same one, are different interfaces.
    read(&[
        "remote ::1; wan a; tunnel mode gre",
        "remote ::1; wan b; tunnel mode gre",
        "remote ::2; wan a; tunnel mode gre",
    ]);
}
