//! Lines about sessions: how BFD, restarts and peer-groups are spoken of.

use std::time::Duration;

use config::{
    Config,
    model::{Bgp, Shutdown},
    parse,
};
use net_types::Family;

fn read(source: &str) -> Config {
    parse(source).unwrap_or_else(|wrong| panic!("{}", wrong.render("test.conf", source))).config
}

/// A speaker with these lines, which has to be printed as it was read.
fn speaker(lines: &str) -> Bgp {
    let config = read(&format!("bfd\n profile fast\nrouter bgp 65001\n{lines}"));
    assert_eq!(read(&config.to_string()), config);
    config.bgp.unwrap()
}

#[test]
fn what_is_said_of_bfd_adds_up() {
    let bfd = |lines: &str| {
        let bgp = speaker(&format!(" neighbor 10.0.0.2 remote-as 65002\n{lines}"));
        bgp.neighbors.into_values().next().unwrap().settings.bfd
    };
    let all = "neighbor 10.0.0.2 bfd profile fast\nneighbor 10.0.0.2 bfd strict\nneighbor 10.0.0.2 bfd check-control-plane-failure\n";
    let used = bfd(all).unwrap();
    assert_eq!((used.profile.unwrap().as_str(), used.strict, used.check_control_plane), ("fast", true, true));
    let used = bfd(&format!("{all}neighbor 10.0.0.2 bfd\nno neighbor 10.0.0.2 bfd strict\n")).unwrap();
    assert_eq!((used.profile.is_some(), used.strict, used.check_control_plane), (true, false, true));
    assert_eq!(bfd(&format!("{all}no neighbor 10.0.0.2 bfd profile fast\n")).unwrap().profile, None);
    assert_eq!(bfd(&format!("{all}no neighbor 10.0.0.2 bfd\n")), None);
    assert_eq!(bfd("no neighbor 10.0.0.2 bfd strict\n"), None);
}

#[test]
fn no_shutdown_is_worth_a_line_only_where_the_group_is_shut_down() {
    let lines = " neighbor PG peer-group\n neighbor PG remote-as 65002\n neighbor 10.0.0.2 peer-group PG\n";
    let own = |bgp: &Bgp| bgp.neighbors.values().next().unwrap().settings.shutdown.clone();
    let bgp = speaker(&format!("{lines} no neighbor 10.0.0.2 shutdown\n no neighbor PG shutdown\n"));
    assert_eq!((own(&bgp), &bgp.peer_groups.values().next().unwrap().shutdown), (None, &None));
    let bgp = speaker(&format!("{lines} neighbor PG shutdown\n no neighbor 10.0.0.2 shutdown\n"));
    assert_eq!(own(&bgp), Some(Shutdown::No));
}

#[test]
fn restarts_are_spoken_of_as_in_frr() {
    let bgp = speaker(
        " bgp graceful-restart preserve-fw-state\n bgp graceful-restart select-defer-time 45\n bgp graceful-restart restart-time 0\n",
    );
    let restart = bgp.graceful_restart;
    assert!(restart.preserve_forwarding && restart.restart_time.is_zero());
    assert_eq!(restart.select_defer_time, Some(Duration::from_secs(45)));
}

#[test]
fn ipv6_may_be_the_default_family() {
    let bgp = speaker(" bgp default ipv6-unicast\n neighbor 10.0.0.2 remote-as 65002\n");
    let neighbor = bgp.resolved().next().unwrap();
    assert!(Family::UNICAST.into_iter().all(|family| bgp.is_active(&neighbor, family)));
}
