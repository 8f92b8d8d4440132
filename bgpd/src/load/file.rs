//! Routes of a file, one after the other.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    net::IpAddr,
    path::Path,
};

use bgp_wire::{FamilySet, Message, Negotiated, NextHop, PathIds, PeerKind, Update};
use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use mrt::{Body, Entry, Record, frame_length};
use net_types::{Family, Prefix};

/// Octets read at a time.
const READ: usize = 256 * 1024;
/// Paths of one prefix that are told apart, over the whole file: so many peers, or so many identifiers.
const MOST_NAMES: usize = 1 << 20;

/// Why a file is not read any further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system, or what unpacks it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It cannot be cut into records.
    #[error("no MRT file, or a damaged one: {0}")]
    Frame(#[from] mrt::FrameError),
    /// It ends within a record.
    #[error("the file ends within a record")]
    Short,
    /// Too many different paths.
    #[error("more than {MOST_NAMES} peers or path identifiers")]
    Names,
}

/// Whom a path comes from and what that one calls it.
#[derive(PartialEq, Eq, Hash)]
enum Named {
    Place(u16, Option<u32>),
    Address(IpAddr),
}

/// A file that is being read.
pub(super) struct Routes {
    input: Box<dyn Read + Send>,
    buffer: BytesMut,
    /// Of the record that was read last.
    pending: std::vec::IntoIter<(Prefix, Entry, u32)>,
    four_octet_as: bool,
    names: HashMap<Named, u32, foldhash::fast::RandomState>,
    unreadable: u64,
}

impl Routes {
    /// Opens a file, unpacking it as it is read where it is packed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
        }
        Self::over(BufReader::with_capacity(READ, File::open(path)?))
    }

    pub(super) fn over(mut input: impl io::BufRead + Send + 'static) -> io::Result<Self> {
        let packed = input.fill_buf()?.get(..3).map(<[u8]>::to_vec).unwrap_or_default();
        let input: Box<dyn Read + Send> = match packed[..] {
            [0x1f, 0x8b, _] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            [b'B', b'Z', b'h'] => Box::new(bzip2_rs::DecoderReader::new(input)),
            _ => Box::new(input),
        };
        let (names, pending) = (HashMap::default(), Vec::new().into_iter());
        Ok(Self { input, buffer: BytesMut::new(), pending, four_octet_as: true, names, unreadable: 0 })
    }

    /// Entries and records that could not be read as a route.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The next route as the UPDATE that it may have come in, its path under a number of its own.
    pub(super) fn next(&mut self, next_hop: Option<IpAddr>) -> Result<Option<Update>, ReadError> {
        loop {
            for (prefix, entry, id) in self.pending.by_ref() {
                match update(&entry, &prefix, self.four_octet_as) {
                    Some(mut update) => {
                        let ids = PathIds { announced: [vec![id]].into_iter().collect(), ..PathIds::default() };
                        update.path_ids = Some(Box::new(ids));
                        let announced = update.reach.iter_mut().flat_map(|reach| &mut reach.announced);
                        announced.for_each(|group| group.next_hop = instead(next_hop, group.next_hop));
                        return Ok(Some(update));
                    }
                    None => self.unreadable += 1,
                }
            }
            let Some(frame) = self.frame()? else { return Ok(None) };
            match Record::parse(&frame).map(|record| record.body) {
                Ok(Body::Rib(rib)) if !rib.family.is_vpn() => {
                    self.four_octet_as = true;
                    let mut named = Vec::with_capacity(rib.entries.len());
                    for entry in rib.entries {
                        let id = self.name(Named::Place(entry.peer, entry.path_id))?;
                        named.push((rib.prefix, entry, id));
                    }
                    self.pending = named.into_iter();
                }
                Ok(Body::TableDump(dump)) => {
                    self.four_octet_as = false;
                    let id = self.name(Named::Address(dump.peer_address))?;
                    self.pending = vec![(dump.prefix, dump.entry, id)].into_iter();
                }
                Ok(_) => {} // a table only: messages belong to sessions that are over
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn name(&mut self, named: Named) -> Result<u32, ReadError> {
        let next = self.names.len();
        match self.names.entry(named) {
            hashbrown::hash_map::Entry::Occupied(known) => Ok(*known.get()),
            hashbrown::hash_map::Entry::Vacant(new) if next < MOST_NAMES => Ok(*new.insert(next as u32 + 1)),
            hashbrown::hash_map::Entry::Vacant(_) => Err(ReadError::Names),
        }
    }

    /// Everything that is left, unpacked.
    #[cfg(test)]
    pub(super) fn read_all(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        self.input.read_to_end(out)
    }

    /// The octets of the next record; `None` at the end.
    fn frame(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if let Some(length) = frame_length(&self.buffer)?
                && self.buffer.len() >= length
            {
                return Ok(Some(self.buffer.split_to(length).freeze()));
            }
            // Memory follows what has come, not what a length field promises.
            let filled = self.buffer.len();
            self.buffer.resize(filled + READ, 0);
            let read = self.input.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(ReadError::Short),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn instead(given: Option<IpAddr>, found: NextHop) -> NextHop {
    match given {
        Some(given) if given.is_ipv4() == found.address().is_ipv4() => given.into(),
        _ => found,
    }
}

/// An entry as an UPDATE; `None` if it is no route.
fn update(entry: &Entry, prefix: &Prefix, four_octet_as: bool) -> Option<Update> {
    let families: FamilySet = Family::ALL.into_iter().collect();
    let negotiated =
        Negotiated { four_octet_as, families, extended_message: true, ..Negotiated::base(PeerKind::External) };
    match Message::parse(&entry.to_update(prefix)?, &negotiated).ok()?.message {
        Message::Update(update) => Some(update).filter(|update| update.reach.is_some()),
        _ => None,
    }
}

/// How many routes a file has, and how many entries that are none.
///
/// # Errors
/// When it cannot be read to its end.
pub fn routes_of(path: &Path) -> Result<(u64, u64), ReadError> {
    let mut routes = Routes::open(path)?;
    let mut count = 0;
    while routes.next(None)?.is_some() {
        count += 1;
    }
    Ok((count, routes.unreadable()))
}
