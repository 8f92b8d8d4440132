//! The same with others' programs: strongSwan at both routers, keepalived for the addresses. What ours is held against.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use super::ground::{GATEWAY, Ground, HOSTS, LINKS, SHARED, SPOKES, policy_based};
use crate::designs::{PATIENCE, Story};
use crate::edge::Binaries;
use crate::lab::Lab;
use crate::peers::{Keepalived, StrongSwan};

struct Router {
    charon: StrongSwan,
    keepalived: Keepalived,
}

impl Router {
    /// The same intervals and priorities as ours have. Whoever gets the address has charon call both spokes.
    fn start(ground: &Ground<'_>, n: usize) -> Result<Self> {
        let node = &ground.routers[n];
        let connection = |(name, outer, prefix): (&str, &str, &str)| {
            let ends = [SHARED.to_string(), outer.to_owned()];
            policy_based(ends, ["hq", name], ["10.1.0.0/24", prefix], ground.identity[n].clone())
        };
        let connections = SPOKES.map(|spoke| (spoke.0.to_owned(), connection(spoke)));
        let charon = StrongSwan::start_all(node, &connections)?;
        let calls = SPOKES.map(|(name, ..)| charon.command(&format!("--initiate --child {name} --timeout 5")));
        let script = node.write("master.sh", format!("#!/bin/sh\n{} &\n{} &\nwait\n", calls[0], calls[1]))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let priority = [200, 150][n];
        let instance = |name: &str, interface: &str, number: u8, address: &str| {
            format!(
                "vrrp_instance {name} {{\n state BACKUP\n interface {interface}\n virtual_router_id {number}\n priority {priority}\n \
                 advert_int 0.1\n virtual_ipaddress {{\n  {address}\n }}\n}}\n"
            )
        };
        let groups = format!(
            "vrrp_sync_group both {{\n group {{\n  wan\n  lan\n }}\n notify_master \"{}\"\n}}\n{}{}",
            script.display(),
            instance("wan", "wan0", 20, &format!("{SHARED}/29")),
            instance("lan", "lan0", 10, &format!("{GATEWAY}/24"))
        );
        Ok(Self { charon, keepalived: Keepalived::start_all(node, &groups)? })
    }

    fn has_tunnels(&self) -> Result<()> {
        let sas = self.charon.sas()?;
        ensure!(sas.matches("INSTALLED").count() == SPOKES.len(), "{sas}");
        Ok(())
    }
}

/// Tells how long the spokes are away when the first router loses its power.
pub fn take_over(lab: &Lab, binaries: &Binaries, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let story = &mut Story { tell };
    let mut ground = Ground::build(lab, binaries)?;
    ground.spoke1.start()?;
    let mut first = Router::start(&ground, 0)?;
    lab.wait_for("both tunnels of router a", PATIENCE, || first.has_tunnels().map(|()| true))?;
    let second = Router::start(&ground, 1)?;
    lab.wait_for("both hosts answer", PATIENCE, || {
        HOSTS[1..].iter().try_for_each(|host| ground.hosts[0].ping((*host).into(), 1)).map(|()| true)
    })?;
    story.tell("strongSwan and keepalived at both routers; router a has the address and both tunnels");
    let probes = ground.probes()?;
    let down: Vec<_> = LINKS.iter().map(|link| format!("link set {link} down")).collect();
    ground.routers[0].ip_batch(&down.join("\n"))?;
    first.keepalived.process.kill()?;
    first.charon.process.kill()?;
    lab.wait_for("both tunnels of router b", PATIENCE, || second.has_tunnels().map(|()| true))?;
    ground.tell_outage(story, "strongSwan and keepalived at router b have taken over", probes)
}
