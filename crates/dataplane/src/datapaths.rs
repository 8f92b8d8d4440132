//! Both packet paths as one: links belong to both, a tunnel to one of them.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use net_types::{Spi, TunnelName, WanName};

use crate::{
    Datapath, Dataplane, DataplaneError, KeeperDoor, NewInbound, NewOutbound, Path, Sink, Stats, TunnelSpec, Userspace,
    WanSpec,
    kernel::{self, Kernel, Support},
};

/// User space and the kernel. Sockets are the former's; IKE goes by them whoever seals.
pub struct Datapaths {
    userspace: Userspace,
    sink: Arc<dyn Sink>,
    support: OnceLock<Result<Support, String>>,
    control: Mutex<Control>,
}

#[derive(Default)]
struct Control {
    /// From the first tunnel that wants it.
    kernel: Option<Arc<Kernel>>,
    wans: BTreeMap<WanName, WanSpec>,
    tunnels: BTreeMap<TunnelName, Datapath>,
}

/// Who has a tunnel.
enum Owner<'a> {
    Userspace(&'a Userspace),
    Kernel(Arc<Kernel>),
}

impl Datapaths {
    /// Without links or tunnels; `keeper` as for [`Userspace::new`].
    pub fn new(sink: Arc<dyn Sink>, keeper: Option<KeeperDoor>) -> Self {
        Self {
            userspace: Userspace::new(Arc::clone(&sink), keeper),
            sink,
            support: OnceLock::new(),
            control: Mutex::default(),
        }
    }

    /// What the kernel can do, or what it lacks, in words; found out by asking for it, once.
    pub fn kernel_support(&self) -> &Result<Support, String> {
        self.support.get_or_init(kernel::probe)
    }

    /// Control state is changed by whole entries, so that a panic elsewhere leaves it usable.
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel's path, opened at need.
    fn kernel(&self, control: &mut Control, tunnel: &TunnelName) -> Result<Arc<Kernel>, DataplaneError> {
        if let Some(kernel) = &control.kernel {
            return Ok(Arc::clone(kernel));
        }
        let failed =
            |error| DataplaneError::Tunnel { tunnel: tunnel.clone(), what: "datapath kernel".to_owned(), error };
        let support = self.kernel_support().as_ref().map_err(|why| {
            failed(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{why}; use datapath auto or userspace, without \"tunnel mode gre\""),
            ))
        })?;
        let kernel = Arc::new(Kernel::open(support, Arc::clone(&self.sink)).map_err(failed)?);
        control.wans.values().for_each(|wan| kernel.add_wan(wan));
        control.kernel = Some(Arc::clone(&kernel));
        Ok(kernel)
    }

    fn owner(&self, tunnel: &TunnelName) -> Owner<'_> {
        let control = self.control();
        match (control.tunnels.get(tunnel), &control.kernel) {
            (Some(Datapath::Kernel { .. }), Some(kernel)) => Owner::Kernel(Arc::clone(kernel)),
            _ => Owner::Userspace(&self.userspace),
        }
    }
}

impl Dataplane for Datapaths {
    fn add_wan(&self, spec: WanSpec) -> Result<(), DataplaneError> {
        let mut control = self.control();
        if let Some(kernel) = &control.kernel {
            kernel.add_wan(&spec);
        }
        control.wans.insert(spec.name.clone(), spec.clone());
        drop(control);
        self.userspace.add_wan(spec)
    }

    fn remove_wan(&self, wan: &WanName) {
        // The kernel keeps the mark: what it sends by a link that has no routes goes nowhere.
        self.userspace.remove_wan(wan);
    }

    fn add_tunnel(&self, spec: TunnelSpec) -> Result<(), DataplaneError> {
        let mut control = self.control();
        let before = control.tunnels.get(&spec.name).copied();
        match spec.datapath {
            Datapath::Userspace => {
                if let (Some(Datapath::Kernel { .. }), Some(kernel)) = (before, &control.kernel) {
                    kernel.remove_tunnel(&spec.name, false);
                } else if before.is_none() {
                    kernel::remove_leftover(&spec.name)?;
                }
                control.tunnels.insert(spec.name.clone(), spec.datapath);
                drop(control);
                self.userspace.add_tunnel(spec)
            }
            Datapath::Kernel { interface, offload } => {
                let kernel = self.kernel(&mut control, &spec.name)?;
                if before == Some(Datapath::Userspace) {
                    self.userspace.remove_tunnel(&spec.name, false);
                } else if before.is_none() {
                    self.userspace.release_device(&spec.name);
                }
                kernel.add_tunnel(&spec.name, spec.mtu, interface, offload, spec.policy)?;
                control.tunnels.insert(spec.name, spec.datapath);
                Ok(())
            }
        }
    }

    fn remove_tunnel(&self, tunnel: &TunnelName, keep_device: bool) {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.remove_tunnel(tunnel, keep_device),
            Owner::Kernel(path) => path.remove_tunnel(tunnel, keep_device),
        }
        self.control().tunnels.remove(tunnel);
    }

    fn set_mtu(&self, tunnel: &TunnelName, mtu: u16) {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.set_mtu(tunnel, mtu),
            Owner::Kernel(path) => path.set_mtu(tunnel, mtu),
        }
    }

    fn add_inbound(&self, tunnel: &TunnelName, sa: NewInbound) -> Result<(), DataplaneError> {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.add_inbound(tunnel, sa),
            Owner::Kernel(path) => path.add_inbound(tunnel, sa),
        }
    }

    fn add_outbound(&self, tunnel: &TunnelName, sa: NewOutbound) -> Result<(), DataplaneError> {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.add_outbound(tunnel, sa),
            Owner::Kernel(path) => path.add_outbound(tunnel, sa),
        }
    }

    fn use_outbound(&self, tunnel: &TunnelName, spi: Spi) -> Result<(), DataplaneError> {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.use_outbound(tunnel, spi),
            Owner::Kernel(path) => path.use_outbound(tunnel, spi),
        }
    }

    fn remove_inbound(&self, spi: Spi) {
        self.userspace.remove_inbound(spi);
        let kernel = self.control().kernel.clone();
        if let Some(kernel) = kernel {
            kernel.remove_inbound(spi);
        }
    }

    fn remove_outbound(&self, tunnel: &TunnelName, spi: Spi) {
        match self.owner(tunnel) {
            Owner::Userspace(path) => path.remove_outbound(tunnel, spi),
            Owner::Kernel(path) => path.remove_outbound(tunnel, spi),
        }
    }

    fn set_path(&self, tunnel: &TunnelName, path: Path) -> Result<(), DataplaneError> {
        match self.owner(tunnel) {
            Owner::Userspace(userspace) => userspace.set_path(tunnel, path),
            Owner::Kernel(kernel) => kernel.set_path(tunnel, &path),
        }
    }

    fn send_ike(
        &self,
        wan: &WanName,
        local: SocketAddr,
        remote: SocketAddr,
        message: &[u8],
    ) -> Result<(), DataplaneError> {
        self.userspace.send_ike(wan, local, remote, message)
    }

    fn keep_devices(&self) -> Result<(), DataplaneError> {
        self.userspace.keep_devices()
    }

    fn send_keepalive(&self, path: &Path) -> Result<(), DataplaneError> {
        self.userspace.send_keepalive(path)
    }

    fn stats(&self) -> Stats {
        let mut stats = self.userspace.stats();
        let kernel = self.control().kernel.clone();
        if let Some(kernel) = kernel {
            stats.tunnels.extend(kernel.stats());
            stats.tunnels.sort_by(|a, b| a.tunnel.cmp(&b.tunnel));
        }
        stats
    }
}
