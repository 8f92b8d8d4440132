//! Every design of `examples/` that is played from beginning to end: what its page says happens.

use std::time::Instant;

use integration::Lab;
use integration::designs::{Design, dual_hub, strongswan_takes_over};
use integration::edge::Binaries;

fn plays(name: &str) {
    let began = Instant::now();
    let mut tell = |what: &str| println!("{:9.3} s  {what}", began.elapsed().as_secs_f64());
    Lab::test(name, |lab| Design::find(name)?.play(lab, &Binaries::find()?, &mut tell));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn cloud_detection() {
    plays("cloud-detection");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dial_backup() {
    plays("dial-backup");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dual_hub() {
    plays("dual-hub");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dual_hub_by_med() {
    let began = Instant::now();
    let mut tell = |what: &str| println!("{:9.3} s  {what}", began.elapsed().as_secs_f64());
    Lab::test("hub-med", |lab| dual_hub::play_by_med(lab, &Binaries::find()?, &mut tell));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dual_router() {
    plays("dual-router");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_bgp() {
    plays("no-bgp");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn ipsec_ha() {
    plays("ipsec-ha");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn ipsec_ha_of_strongswan_and_keepalived() {
    let began = Instant::now();
    let mut tell = |what: &str| println!("{:9.3} s  {what}", began.elapsed().as_secs_f64());
    Lab::test("ipsec-ha-others", |lab| strongswan_takes_over(lab, &Binaries::find()?, &mut tell));
}

#[test]
fn every_design_has_a_picture() {
    for design in integration::designs::ALL {
        assert!(design.picture().lines().count() > 3, "{}", design.name);
    }
}
