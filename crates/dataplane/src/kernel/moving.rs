//! Associations that take another way.

use std::{io, time::Instant};

use net_types::TunnelName;
use xfrm::{Direction, Moved, SaId};

use super::{Control, encapsulation, failed, socket::NetlinkError};
use crate::{DataplaneError, Path};

/// Sequence numbers that a moved association skips: more than are used while it moves.
const SKIP: u32 = 1 << 14;

impl Control {
    pub(super) fn set_path(&mut self, name: &TunnelName, path: &Path) -> Result<(), DataplaneError> {
        let mark = self.mark(&path.wan)?;
        let tunnel = self.tunnel(name)?;
        let mut steps: Vec<(SaId, Path, Direction, bool)> = Vec::new();
        steps.extend(tunnel.inbound.values().map(|sa| (sa.id, sa.path.clone(), Direction::Inbound, true)));
        steps.extend(tunnel.outbound.iter().map(|sa| (sa.id, sa.path.clone(), Direction::Outbound, sa.encapsulated)));
        let mut gone = Vec::new();
        for (id, old, direction, encapsulated) in steps {
            let inbound = direction == Direction::Inbound;
            if inbound && old.local.ip() == path.local.ip() {
                // It takes packets from anywhere; only where it is expected from changes.
                self.moved(name, id, id, path, direction)?;
                continue;
            }
            let (source, destination) =
                if inbound { (path.remote.ip(), path.local.ip()) } else { (path.local.ip(), path.remote.ip()) };
            let moved = Moved {
                source,
                destination,
                encapsulation: encapsulation(path, direction, encapsulated),
                output_mark: (!inbound).then_some(mark),
                skip: if inbound { 0 } else { SKIP },
            };
            let new = SaId { destination, spi: id.spi };
            let same_addresses = (old.local.ip(), old.remote.ip()) == (path.local.ip(), path.remote.ip());
            let message = self.requests.ask(xfrm::get_sa(id), |received| {
                if same_addresses { moved.update(received) } else { moved.add(received) }
            });
            let lost = || NetlinkError::Socket(io::ErrorKind::NotFound.into());
            let message = message
                .and_then(|message| message.ok_or_else(lost))
                .map_err(failed(name, "reading an association that is to move"))?;
            let messages = if same_addresses || new != id { vec![message] } else { vec![xfrm::delete_sa(id), message] };
            let outcome = self.requests.batch(messages).into_iter().last().unwrap_or(Ok(()));
            outcome.map_err(failed(name, "moving an association"))?;
            self.moved(name, id, new, path, direction)?;
            if new != id {
                gone.push(id);
            }
        }
        let settled = self.settle(name);
        self.delete(&gone);
        settled
    }

    /// Takes up the new name and path of an association.
    fn moved(
        &mut self,
        name: &TunnelName,
        old: SaId,
        new: SaId,
        path: &Path,
        direction: Direction,
    ) -> Result<(), DataplaneError> {
        let now = Instant::now();
        let tunnel = self.tunnel(name)?;
        let (id, at, seen) = match direction {
            Direction::Inbound => match tunnel.inbound.get_mut(&old.spi) {
                Some(sa) => (&mut sa.id, &mut sa.path, &mut sa.seen),
                None => return Ok(()),
            },
            Direction::Outbound => match tunnel.outbound.iter_mut().find(|sa| sa.id == old) {
                Some(sa) => (&mut sa.id, &mut sa.path, &mut sa.seen),
                None => return Ok(()),
            },
        };
        if *id != new {
            *seen = seen.again(now);
        }
        (*id, *at) = (new, path.clone());
        Ok(())
    }
}
