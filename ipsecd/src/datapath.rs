//! Who seals and opens a tunnel's packets: ipsecd or the kernel, and why.
//!
//! Decided for tunnels that share links together: the socket on its port 4500 leaves ESP to the kernel, or does not.

use std::collections::{BTreeMap, BTreeSet};

use config::model::{Config, Datapath, tunnels_of_one_datapath};
use dataplane::Support;
use net_types::{TunnelName, WanName};

use crate::suites;

/// The datapath of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The kernel's, or ipsecd's own.
    pub kernel: bool,
    /// For people: what it goes by.
    pub why: String,
}

impl Choice {
    /// `kernel` or `userspace`.
    pub fn name(&self) -> &'static str {
        if self.kernel { "kernel" } else { "userspace" }
    }
}

/// A choice for every tunnel. `support` is asked for only where somebody wants to know.
pub(crate) fn choose<'a>(
    config: &Config,
    support: impl Fn() -> &'a Result<Support, String>,
) -> BTreeMap<TunnelName, Choice> {
    let mut choices: BTreeMap<TunnelName, Choice> = BTreeMap::new();
    for name in config.tunnels.keys() {
        if choices.contains_key(name) {
            continue;
        }
        let together = tunnels_of_one_datapath(&config.tunnels, name);
        let auto = of_group(config, &together, &support);
        for name in together {
            let choice = match wanted(config, name) {
                Datapath::Auto => auto.clone(),
                Datapath::Kernel if is_gre(config, name) => {
                    Choice { kernel: true, why: "GRE interfaces are the kernel's".to_owned() }
                }
                said => Choice { kernel: said == Datapath::Kernel, why: "as configured".to_owned() },
            };
            choices.insert(name.clone(), choice);
        }
    }
    choices
}

/// The links whose ESP is the kernel's.
pub(crate) fn kernel_wans(config: &Config, choices: &BTreeMap<TunnelName, Choice>) -> BTreeSet<WanName> {
    let kernel = |name: &TunnelName| choices.get(name).is_some_and(|choice| choice.kernel);
    config.tunnels.iter().filter(|(name, _)| kernel(name)).flat_map(|(_, tunnel)| tunnel.wans().cloned()).collect()
}

fn wanted(config: &Config, name: &TunnelName) -> Datapath {
    config.tunnels.get(name).map_or(config.datapath, |tunnel| tunnel.wanted_datapath(config.datapath))
}

fn is_gre(config: &Config, name: &TunnelName) -> bool {
    config.tunnels.get(name).is_some_and(|tunnel| tunnel.packets.gre.is_some())
}

/// What "auto" comes to for tunnels that share links.
fn of_group<'a>(
    config: &Config,
    together: &BTreeSet<&TunnelName>,
    support: &impl Fn() -> &'a Result<Support, String>,
) -> Choice {
    let said = together.iter().find(|name| wanted(config, name) != Datapath::Auto);
    if let Some(name) = said {
        let kernel = wanted(config, name) == Datapath::Kernel;
        return Choice { kernel, why: format!("auto: as tunnel {name}, which shares a link") };
    }
    let lacks = |support: &Support| {
        together.iter().find_map(|name| {
            let ciphers = suites::packet_ciphers(config, config.tunnels.get(*name)?);
            let cipher = ciphers.into_iter().find(|cipher| !support.ciphers.contains(cipher))?;
            Some(format!("auto: the kernel has no {cipher}, which tunnel {name} offers"))
        })
    };
    match support().as_ref().map(lacks) {
        Err(why) => Choice { kernel: false, why: format!("auto: {why}") },
        Ok(Some(why)) => Choice { kernel: false, why },
        Ok(None) => Choice { kernel: true, why: "auto: the kernel has xfrm interfaces and the ciphers".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "wan a\n interface e0\nwan b\n interface e1\nipsec identity i\n id x\n pre-shared-key file /k\n\
                        ipsec proposal cha\n esp chacha20poly1305\n";

    fn tunnels(lines: &[(&str, &str, &str)]) -> Config {
        let mut text = HEAD.to_owned();
        for (name, wan, more) in lines {
            text += &format!("ipsec tunnel {name}\n remote 192.0.2.1\n wan {wan}\n identity i\n{more}");
        }
        config::parse(&text).unwrap().config
    }

    fn chosen(config: &Config, support: Result<Vec<esp::Cipher>, String>) -> Vec<(String, bool, String)> {
        let support = support.map(Support::of_ciphers);
        let choices = choose(config, || &support);
        choices.into_iter().map(|(name, choice)| (name.to_string(), choice.kernel, choice.why)).collect()
    }

    fn gcm() -> Result<Vec<esp::Cipher>, String> {
        Ok(vec![esp::Cipher::Aes128Gcm16, esp::Cipher::Aes256Gcm16])
    }

    #[test]
    fn auto_takes_the_kernel_where_it_has_everything() {
        let config = tunnels(&[("t1", "a", " proposal cha\n"), ("t2", "b", "")]);
        let both = Ok(vec![esp::Cipher::Aes128Gcm16, esp::Cipher::Aes256Gcm16, esp::Cipher::ChaCha20Poly1305]);
        assert!(chosen(&config, both).iter().all(|(_, kernel, _)| *kernel));
        let some = chosen(&config, Ok(vec![esp::Cipher::ChaCha20Poly1305]));
        assert_eq!((some[0].1, some[1].1), (true, false));
        assert!(some[1].2.contains("the kernel has no aes"), "{some:?}");
        let none = chosen(&config, Err("the kernel has no ESP".to_owned()));
        assert!(none.iter().all(|(_, kernel, why)| !kernel && why == "auto: the kernel has no ESP"));
    }

    #[test]
    fn the_tunnels_of_a_link_go_one_way() {
        let config = tunnels(&[("t1", "a", ""), ("t2", "a", " datapath userspace\n"), ("t3", "b", "")]);
        let found = chosen(
            &config,
            gcm().map(|mut all| {
                all.push(esp::Cipher::ChaCha20Poly1305);
                all
            }),
        );
        assert_eq!(found[0], ("t1".into(), false, "auto: as tunnel t2, which shares a link".into()));
        assert_eq!(found[1], ("t2".into(), false, "as configured".into()));
        let support = gcm().map(Support::of_ciphers);
        let choices = choose(&config, || &support);
        assert!(!kernel_wans(&config, &choices).contains(&"a".parse().unwrap()));
    }

    #[test]
    fn gre_is_the_kernels_and_takes_the_tunnels_of_its_link_along() {
        let config = tunnels(&[("t1", "a", " tunnel mode gre\n"), ("t2", "a", ""), ("t3", "b", "")]);
        let found = chosen(&config, Err("the kernel has no ESP".to_owned()));
        assert_eq!(found.iter().map(|(_, kernel, _)| *kernel).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(
            (&*found[0].2, &*found[1].2),
            ("GRE interfaces are the kernel's", "auto: as tunnel t1, which shares a link")
        );
    }

    #[test]
    fn nobody_asks_where_everything_is_said() {
        let config = tunnels(&[("t1", "a", " datapath kernel\n"), ("t2", "b", " datapath userspace\n")]);
        let choices = choose(&config, || panic!("asked"));
        assert_eq!(kernel_wans(&config, &choices).into_iter().map(|wan| wan.to_string()).collect::<Vec<_>>(), ["a"]);
    }
}
