//! What of a tunnel cannot be beside the rest of a configuration.

use net_types::{IfName, TunnelName};

use crate::model::{Config, Credential, Datapath, Initiate, Standby, Tunnel, tunnels_of_one_datapath};

/// What of a tunnel cannot be beside the rest of the configuration.
pub(super) fn clash(config: &Config, name: &TunnelName) -> Option<String> {
    let interface = IfName::from(name.clone());
    if let Some((wan, _)) = config.wans.iter().find(|(_, wan)| wan.interface == interface) {
        return Some(format!("its interface would be {name}, which is the interface of wan {wan}"));
    }
    let tunnel = config.tunnels.get(name)?;
    let identity = config.identities.get(&tunnel.identity);
    let by_key = identity.is_some_and(|identity| matches!(identity.credential, Credential::PreSharedKey { .. }));
    if by_key && !tunnel.demands.is_empty() {
        let identity = &tunnel.identity;
        return Some(format!(
            "\"remote-ca\" and \"remote-certificate\" demand a certificate, but identity {identity} is by pre-shared key"
        ));
    }
    let found = no_gre(config, name, tunnel).or_else(|| other_datapath(config, name, tunnel));
    if let Some(message) = found.or_else(|| no_standby(config, name, tunnel)) {
        return Some(message);
    }
    let ours = &tunnel.addresses;
    // Each pair is told once, at the later name.
    config.tunnels.range(..name.clone()).find_map(|(other, tunnel)| {
        let both = tunnel.addresses.iter().find(|theirs| ours.iter().any(|ours| ours.address() == theirs.address()))?;
        Some(format!("its address {} is also that of ipsec tunnel {other}", both.address()))
    })
}

/// What keeps a tunnel from standing by for those that it names.
fn no_standby(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    let Initiate::Standby(Standby { stands_for, .. }) = &this.initiate else { return None };
    stands_for.iter().find_map(|other| match config.tunnels.get(other) {
        _ if other == name => Some("it cannot stand by for itself".to_owned()),
        None => Some(format!("it stands by for ipsec tunnel {other}, which is not configured")),
        Some(Tunnel { initiate: Initiate::Standby(_), .. }) => Some(format!(
            "it stands by for ipsec tunnel {other}, which stands by itself; name those that both stand for"
        )),
        Some(_) => None,
    })
}

/// What keeps a tunnel from being a GRE interface: it is the kernel's, and two addresses have one.
fn no_gre(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    this.packets.gre?;
    if this.datapath.unwrap_or(config.datapath) == Datapath::Userspace {
        let said = if this.datapath.is_some() { "datapath userspace" } else { "ipsec datapath userspace" };
        return Some(format!(
            "\"tunnel mode gre\" is for the kernel's datapath, and \"{said}\" excludes that; say \"datapath kernel\" here, or leave \"tunnel mode gre\" out"
        ));
    }
    let twin = |other: &Tunnel| {
        let shared = other.wans().any(|wan| this.wans().any(|ours| ours == wan));
        other.packets.gre.is_some() && other.remote.address == this.remote.address && shared
    };
    let (other, _) = config.tunnels.range(..name.clone()).find(|(_, other)| twin(other))?;
    Some(format!(
        "ipsec tunnel {other} is a GRE interface to the same address over the same wan; two addresses have one between them"
    ))
}

/// Port 4500 of a link is the kernel's or ipsecd's.
fn other_datapath(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    let of = |tunnel: &Tunnel| tunnel.wanted_datapath(config.datapath);
    let contrary = match of(this) {
        Datapath::Auto => return None,
        Datapath::Kernel => Datapath::Userspace,
        Datapath::Userspace => Datapath::Kernel,
    };
    let together = tunnels_of_one_datapath(&config.tunnels, name).into_iter().take_while(|other| *other != name);
    let other =
        together.into_iter().find(|other| config.tunnels.get(*other).is_some_and(|tunnel| of(tunnel) == contrary))?;
    Some(format!(
        "its datapath is {}, that of ipsec tunnel {other} is {}; tunnels that share a wan have one datapath",
        of(this).as_str(),
        contrary.as_str()
    ))
}
