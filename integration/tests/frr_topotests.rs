//! FRR's own topology tests against our programs: one of each kind of life that an FRR user leads.

use std::time::Duration;

use anyhow::Result;
use integration::edge::Binaries;
use integration::packages;
use integration::topotests::{PACKAGES, Topotests};

/// Folders that have to pass.
const FOLDERS: [&str; 16] = [
    "bgp_minimum_holdtime",
    "bgp_comm_list_delete",
    "bgp_confederation_astype",
    "bgp_rr_ibgp",
    "bfd_topo1",
    "bfd_topo3",
    "bgp_disable_addpath_rx",
    "bgp_llgr",
    "bgp_local_as_private_remove",
    "bgp_peer_group",
    "bgp_default_route",
    "bgp_default_route_route_map_match",
    "bgp_dont_capability_negotiate",
    "bgp_extended_optional_parameters_length",
    "bgp_reject_as_sets",
    "bgp_remove_private_as",
];

#[test]
#[ignore = "needs root, and the source package of FRR"]
fn frrs_own_tests_pass_against_our_programs() -> Result<()> {
    packages::ensure(&[&packages::BASE[..], &PACKAGES[..]].concat())?;
    let tests = match Topotests::fetch() {
        Ok(tests) => tests,
        Err(why) => {
            println!("NOT RUN: FRR's tests cannot be had here ({why:#}); set FRR_TOPOTESTS to a folder that has them");
            return Ok(());
        }
    };
    let binaries = Binaries::find()?;
    for folder in FOLDERS {
        tests.run(folder, &binaries, Duration::from_secs(240))?;
        println!("{folder}: passed");
    }
    Ok(())
}
