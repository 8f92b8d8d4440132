//! A full table to announce: every IPv4 prefix of the global table of 2015-11-01 with its origin AS.
//!
//! The data and their origin are described in `testdata/README.md`. Paths are made up from the origin; more prefixes
//! than the table has are more specific halves of those that it has.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ipnet::Ipv4Net;

/// The packed table (see [`pack`]).
const TABLE: &[u8] = include_bytes!("../testdata/full-table-20151101.bin");

/// One prefix and the AS it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origination {
    /// The prefix.
    pub prefix: Ipv4Net,
    /// The origin AS.
    pub origin: u32,
}

/// Exactly `count` prefixes, spread evenly over the table; the same ones each time.
///
/// Prefixes that labs use for their own links and sites are left out.
pub fn take(count: usize) -> Result<Vec<Origination>> {
    let mut table = unpack(TABLE)?;
    table.retain(|route| !is_reserved(route.prefix));
    if count <= table.len() {
        return Ok((0..count).map(|n| table[n * table.len() / count]).collect());
    }
    let mut known: HashSet<Ipv4Net> = table.iter().map(|route| route.prefix).collect();
    let mut halves_of = 0;
    while table.len() < count {
        let route = *table.get(halves_of).context("too many prefixes asked for")?;
        halves_of += 1;
        let longer = route.prefix.prefix_len() + 1;
        if longer > 24 {
            continue;
        }
        for half in route.prefix.subnets(longer)? {
            if table.len() < count && known.insert(half) {
                table.push(Origination { prefix: half, origin: route.origin });
            }
        }
    }
    table.sort_unstable();
    Ok(table)
}

/// The made-up path of a route, from the announcing AS to the origin.
pub fn path(route: &Origination, announcer: u32) -> Vec<u32> {
    // A few transit networks, chosen by origin and by which half of the address space the prefix is in, give about as
    // many distinct attribute sets as a real table has.
    const TRANSIT: [u32; 8] = [174, 701, 1299, 2914, 3257, 3320, 3356, 6939];
    let half = u32::from(route.prefix.network().octets()[2] & 1);
    let pick =
        |salt: u32| TRANSIT[(route.origin.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) >> 13) as usize % 8];
    let mut path = vec![announcer, pick(half)];
    if route.origin.is_multiple_of(3) {
        path.push(pick(half + 2));
    }
    path.push(route.origin);
    path.dedup();
    path
}

/// Documentation, private and link-local networks: labs live there.
fn is_reserved(prefix: Ipv4Net) -> bool {
    const RESERVED: [(Ipv4Addr, u8); 7] = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    RESERVED.iter().any(|(network, length)| {
        Ipv4Net::new(*network, *length).is_ok_and(|net| net.contains(&prefix) || prefix.contains(&net))
    })
}

/// Packs a sorted table: three columns (length; distance to the network before; change of origin), each its own zlib
/// stream behind its length, distances and changes as variable-length integers.
pub fn pack(table: &[Origination]) -> Result<Vec<u8>> {
    let (mut lengths, mut distances, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    let (mut network, mut origin) = (0u32, 0u32);
    for route in table {
        let next = u32::from(route.prefix.network());
        let distance = u64::from(next.checked_sub(network).context("the table is not sorted")?);
        lengths.push(route.prefix.prefix_len());
        // Most distances are whole /24s: the lowest bit says whether the unit is 256 addresses or one.
        put_integer(if distance.is_multiple_of(256) { distance >> 7 } else { distance << 1 | 1 }, &mut distances);
        let change = i64::from(route.origin) - i64::from(origin);
        put_integer(((change << 1) ^ (change >> 63)).cast_unsigned(), &mut origins);
        (network, origin) = (next, route.origin);
    }
    let mut packed = Vec::new();
    packed.extend(u32::try_from(table.len())?.to_be_bytes());
    for column in [lengths, distances, origins] {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&column)?;
        let column = encoder.finish()?;
        packed.extend(u32::try_from(column.len())?.to_be_bytes());
        packed.extend(column);
    }
    Ok(packed)
}

/// Undoes [`pack`].
pub fn unpack(mut packed: &[u8]) -> Result<Vec<Origination>> {
    let count = take_u32(&mut packed)?;
    let mut columns = Vec::with_capacity(3);
    for _ in 0..3 {
        let length = usize::try_from(take_u32(&mut packed)?)?;
        let (column, rest) = packed.split_at_checked(length).context("the table is cut short")?;
        packed = rest;
        let mut text = Vec::new();
        ZlibDecoder::new(column).read_to_end(&mut text)?;
        columns.push(text);
    }
    let [lengths, distances, origins] = columns.as_slice() else { unreachable!("three columns were read") };
    let (mut distances, mut origins) = (distances.as_slice(), origins.as_slice());
    let (mut network, mut origin) = (0u32, 0i64);
    let mut table = Vec::with_capacity(lengths.len());
    for length in lengths {
        let distance = take_integer(&mut distances)?;
        let distance = if distance & 1 == 0 { distance << 7 } else { distance >> 1 };
        network = u32::try_from(u64::from(network) + distance).context("a network out of range")?;
        let change = take_integer(&mut origins)?;
        origin += (change >> 1).cast_signed() ^ -((change & 1).cast_signed());
        table.push(Origination { prefix: Ipv4Net::new(network.into(), *length)?, origin: u32::try_from(origin)? });
    }
    ensure!(table.len() == usize::try_from(count)?, "the table has {} rows, its head says {count}", table.len());
    Ok(table)
}

/// Reads the text form: lines of `PREFIX<tab>ORIGIN`, `;` begins a comment; IPv6 is passed over.
pub fn read_text(text: &str) -> Result<Vec<Origination>> {
    let mut table = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with(';') && !line.contains(':')) {
        let (prefix, origin) = line.split_once('\t').with_context(|| format!("no tab in {line:?}"))?;
        table.push(Origination { prefix: prefix.parse()?, origin: origin.parse()? });
    }
    table.sort_unstable();
    Ok(table)
}

fn put_integer(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_integer(input: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (octet, rest) = input.split_first().context("a column is cut short")?;
        *input = rest;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("an integer of more than 64 bits")
}

fn take_u32(input: &mut &[u8]) -> Result<u32> {
    let (head, rest) = input.split_first_chunk().context("the table is cut short")?;
    *input = rest;
    Ok(u32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_table_unpacks_to_itself() -> Result<()> {
        let table =
            read_text("; a comment\n1.0.0.0/24\t15169\n1.0.4.64/26\t7\n2001:db8::/32\t5\n1.0.4.0/22\t4294967295\n")?;
        assert_eq!(table.len(), 3);
        assert_eq!(unpack(&pack(&table)?)?, table);
        Ok(())
    }

    #[test]
    fn any_number_of_distinct_prefixes_can_be_had() -> Result<()> {
        for count in [0, 1, 1_000, 100_000, 1_000_000] {
            let table = take(count)?;
            assert_eq!(table.len(), count);
            let distinct: HashSet<Ipv4Net> = table.iter().map(|route| route.prefix).collect();
            assert_eq!(distinct.len(), count);
        }
        Ok(())
    }

    #[test]
    fn the_labs_own_networks_are_not_in_the_table() -> Result<()> {
        let own: Ipv4Addr = "198.51.100.6".parse()?;
        assert!(!take(600_000)?.iter().any(|route| route.prefix.contains(&own)));
        Ok(())
    }

    #[test]
    fn paths_lead_from_the_announcer_to_the_origin() -> Result<()> {
        for route in take(1_000)? {
            let path = path(&route, 65100);
            assert_eq!(path.first(), Some(&65100));
            assert_eq!(path.last(), Some(&route.origin));
        }
        Ok(())
    }
}
