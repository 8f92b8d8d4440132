//! The network interface of a tunnel: its addresses, its MTU, its being up.
//!
//! The device itself is made by the dataplane. Here the kernel is brought to what the configuration says by difference:
//! an address that stays is never taken out and put back, since the kernel would drop the routes that hang on it.

use std::{io, pin::pin};

use config::model::InterfaceAddress;
use futures_util::TryStreamExt;
use net_types::TunnelName;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::{Handle, LinkUnspec};

/// The MTU of a tunnel over a WAN that takes `wan_mtu` octets, with the outer header and UDP (8) taken off: the largest inner
/// packet that fits under every one of `ciphers`, since which one it will be is agreed with the peer later. `gre` octets of
/// header are sealed with it: in transport mode the outer header is the same one. Never less than IPv6 needs.
pub fn inner_mtu_octets(wan_mtu: u32, outer_is_ipv6: bool, gre: u32, ciphers: &[esp::Cipher]) -> u32 {
    let headers = if outer_is_ipv6 { 40 + 8 } else { 20 + 8 };
    let room = usize::try_from(wan_mtu).unwrap_or(usize::MAX).saturating_sub(headers);
    let fits = ciphers.iter().map(|cipher| cipher.inner_capacity(room)).min();
    let fits = u32::try_from(fits.unwrap_or_else(|| esp::inner_capacity(room))).unwrap_or(u32::MAX);
    fits.saturating_sub(gre).max(1280)
}

/// Brings interface `ifindex` to this MTU, and up.
///
/// # Errors
/// When the kernel refuses.
pub async fn set_mtu(handle: &Handle, tunnel: &TunnelName, ifindex: u32, mtu_octets: u32) -> io::Result<()> {
    let link = LinkUnspec::new_with_index(ifindex).mtu(mtu_octets).up().build();
    let set = handle.link().set(link).execute().await;
    set.map_err(|error| io::Error::other(format!("tunnel {tunnel}: cannot set MTU {mtu_octets} and up: {error}")))
}

/// Brings interface `ifindex` to these addresses and this MTU, and up.
///
/// # Errors
/// When the kernel refuses; the text names the tunnel and the step.
pub async fn configure(
    handle: &Handle,
    tunnel: &TunnelName,
    ifindex: u32,
    mtu_octets: u32,
    addresses: &[InterfaceAddress],
) -> io::Result<()> {
    set_mtu(handle, tunnel, ifindex, mtu_octets).await?;
    let step =
        |what: String| move |error: rtnetlink::Error| io::Error::other(format!("tunnel {tunnel}: {what}: {error}"));

    let mut present = Vec::new();
    {
        let mut dump = pin!(handle.address().get().set_link_index_filter(ifindex).execute());
        while let Some(message) = dump.try_next().await.map_err(step("cannot read addresses".into()))? {
            present.push(message);
        }
    }
    for wanted in addresses {
        if !present.iter().any(|message| is(message, wanted)) {
            let request = handle.address().add(ifindex, wanted.address(), wanted.bits());
            request.execute().await.map_err(step(format!("cannot add address {wanted}")))?;
        }
    }
    for message in present {
        // The kernel's own link-local IPv6 address is not ours to take.
        if message.header.scope != AddressScope::Link && !addresses.iter().any(|wanted| is(&message, wanted)) {
            handle.address().del(message).execute().await.map_err(step("cannot remove an address".into()))?;
        }
    }
    loosen_reverse_path_filter(tunnel);
    Ok(())
}

/// While two sites converge a packet may come in on one tunnel and its answer go out on the other, or nowhere for a
/// moment; either fails a reverse path filter. The dataplane checks inner sources itself, so ours is off; where the
/// filter of all interfaces is strict (1), loose (2) is the weakest that can be had, since the greater one counts.
fn loosen_reverse_path_filter(tunnel: &TunnelName) {
    let strict_for_all =
        std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").is_ok_and(|all| all.trim() == "1");
    let path = format!("/proc/sys/net/ipv4/conf/{tunnel}/rp_filter");
    if let Err(error) = std::fs::write(&path, if strict_for_all { "2" } else { "0" }) {
        tracing::warn!(%tunnel, %error, "cannot relax rp_filter; traffic may be lost while routes move");
    }
}

fn is(message: &AddressMessage, wanted: &InterfaceAddress) -> bool {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    address == Some(wanted.address()) && message.header.prefix_len == wanted.bits()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use netwatch::Watch;

    use super::*;

    #[test]
    fn the_mtu_leaves_room_for_the_overhead() {
        let aead = [esp::Cipher::Aes256Gcm16];
        assert_eq!(inner_mtu_octets(1500, false, 0, &aead), 1438);
        assert_eq!(inner_mtu_octets(1500, true, 0, &aead), 1418);
        // The kernel's own GRE and ESP in UDP around 1434 octets: 20 + 8 + 8 + 8 + 4 + 1434 + 2 + 16 = 1500.
        assert_eq!(inner_mtu_octets(1500, false, 4, &aead), 1434);
        assert_eq!(inner_mtu_octets(1500, true, 8, &aead), 1410);
        assert_eq!(inner_mtu_octets(576, false, 0, &aead), 1280);
        let cbc = esp::Cipher::AesCbc(esp::AesKeySize::Bits256, esp::Hmac::Sha256);
        assert_eq!(inner_mtu_octets(1500, false, 0, &[aead[0], cbc]), 1422, "what fits under either");
        for wan in 1370..1600 {
            for cipher in [aead[0], cbc] {
                let inner = inner_mtu_octets(wan, false, 0, &[cipher]);
                assert!(cipher.sealed_len(inner as usize) + 28 <= wan as usize, "{wan} under {cipher}");
            }
        }
    }

    #[test]
    fn addresses_are_brought_to_the_configuration_by_difference() {
        let worker = std::thread::spawn(|| {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let made =
                    Command::new("ip").args(["link", "add", "tun1", "type", "veth", "peer", "name", "far"]).status();
                assert!(made.unwrap().success());
                // A real tunnel interface asks nobody whether its address is taken; this one would, for a second.
                std::fs::write("/proc/sys/net/ipv6/conf/tun1/accept_dad", "0").unwrap();
                let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
                let tunnel: TunnelName = "tun1".parse().unwrap();
                for (wanted, mtu) in [
                    (addresses(&["169.254.1.2/30", "fd00:1::2/64"]), 1438),
                    (addresses(&["169.254.1.2/30", "169.254.9.2/30"]), 1400),
                ] {
                    let watch = Watch::start().await.unwrap();
                    let ifindex = watch.view().link_named("tun1").unwrap().ifindex;
                    for _ in 0..2 {
                        configure(watch.handle(), &tunnel, ifindex, mtu, &wanted).await.unwrap();
                    }
                    let mut watch = Watch::start().await.unwrap();
                    let link = watch.view().link(ifindex).unwrap();
                    assert_eq!((link.mtu_octets, link.admin_up), (mtu, true));
                    let mut expected: Vec<_> = wanted.iter().map(InterfaceAddress::address).collect();
                    expected.sort();
                    // The kernel takes an IPv6 address into use a moment after it has said that it is there.
                    loop {
                        let mut seen: Vec<_> =
                            watch.view().addresses_of(ifindex).map(|address| address.local).collect();
                        seen.retain(|address| !address.to_string().starts_with("fe80"));
                        seen.sort();
                        if seen == expected {
                            break;
                        }
                        let news = tokio::time::timeout(std::time::Duration::from_secs(10), watch.changed()).await;
                        assert!(matches!(news, Ok(Ok(_))), "the interface has {seen:?}, expected {expected:?}");
                    }
                }
            });
        });
        worker.join().unwrap();
    }
}
