use alloc::string::String;
use alloc::vec::Vec;

use basalt_net::Endpoint;
use basalt_nvme_spec::log_page::{DiscoveryEntry, DiscoveryHeader};
use basalt_nvme_spec::{Command, LogPageId};
use zerocopy::FromBytes;

use super::super::error::PathError;
use super::super::options::TransportId;
use super::super::session::Session;

/// Most entries that are read.
const ENTRIES_MAX: u64 = 1024;
/// How often the page is read again that changes while it is read.
const TRIES_MAX: u32 = 8;

/// An entry that can be used: of a subsystem, or of a discovery service, be it another one or
/// another way to the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) subnqn: String,
    pub(super) transport: TransportId,
    pub(super) is_referral: bool,
}

/// All entries that can be used.
pub(super) async fn read(session: &Session) -> Result<Vec<Entry>, PathError> {
    for _ in 0..TRIES_MAX {
        let header = read_header(session).await?;
        if header.recfmt.get() != 0 {
            return Err(PathError::BadData);
        }
        let mut entries = Vec::new();
        for at in 0..header.numrec.get().min(ENTRIES_MAX) {
            entries.extend(read_entry(session, at).await?);
        }
        if read_header(session).await?.genctr == header.genctr {
            return Ok(entries);
        }
    }
    Err(PathError::BadData)
}

async fn read_header(session: &Session) -> Result<DiscoveryHeader, PathError> {
    let len = size_of::<DiscoveryHeader>();
    let command = Command::get_log_page(LogPageId::DISCOVERY, 0, 0, len as u32);
    let page = session.read(command, len).await?;
    DiscoveryHeader::read_from_prefix(page.as_slice())
        .map(|(header, _)| header)
        .map_err(|_| PathError::BadData)
}

/// Reads an entry by itself, which any controller can send.
async fn read_entry(session: &Session, at: u64) -> Result<Option<Entry>, PathError> {
    let len = size_of::<DiscoveryEntry>();
    let offset = (size_of::<DiscoveryHeader>() as u64) + at * len as u64;
    let command = Command::get_log_page(LogPageId::DISCOVERY, 0, offset, len as u32);
    let page = match session.read(command, len).await {
        Ok(page) => page,
        // The page has become shorter since; its header will tell.
        Err(PathError::Command(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let entry = DiscoveryEntry::read_from_prefix(page.as_slice());
    Ok(entry.ok().and_then(|(entry, _)| parse(&entry)))
}

/// What we can use of an entry: TCP, by an address.
fn parse(entry: &DiscoveryEntry) -> Option<Entry> {
    let is_referral = match entry.subtype {
        DiscoveryEntry::SUBTYPE_REFERRAL | DiscoveryEntry::SUBTYPE_CURRENT_DISCOVERY => true,
        DiscoveryEntry::SUBTYPE_NVM => false,
        _ => return None,
    };
    if entry.trtype != DiscoveryEntry::TRTYPE_TCP {
        return None;
    }
    let address = text(&entry.traddr)?.parse().ok()?;
    let port = text(&entry.trsvcid)?.parse().ok().filter(|port| *port != 0)?;
    let transport = TransportId { peer: Endpoint::new(address, port) };
    Some(Entry { subnqn: text(&entry.subnqn)?.into(), transport, is_referral })
}

/// A field that ends with NULs or spaces.
fn text(field: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(field).ok()?;
    let text = text.split('\0').next().unwrap_or_default().trim_end();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(traddr: &str, trsvcid: &str) -> DiscoveryEntry {
        let mut entry = DiscoveryEntry {
            trtype: DiscoveryEntry::TRTYPE_TCP,
            subtype: DiscoveryEntry::SUBTYPE_NVM,
            traddr: [b' '; 256],
            trsvcid: [b' '; 32],
            ..DiscoveryEntry::default()
        };
        entry.traddr[..traddr.len()].copy_from_slice(traddr.as_bytes());
        entry.trsvcid[..trsvcid.len()].copy_from_slice(trsvcid.as_bytes());
        entry.subnqn[..3].copy_from_slice(b"nqn");
        entry
    }

    #[test]
    fn an_entry_is_used_if_it_says_where_to_go_by_tcp() {
        let found = parse(&entry("10.0.0.1", "4420")).unwrap();
        assert_eq!(found.transport.peer, Endpoint::from(([10, 0, 0, 1], 4420)));
        assert_eq!((&*found.subnqn, found.is_referral), ("nqn", false));
        assert!(
            parse(&entry("fe80::1", "4420")).is_some_and(|found| found.transport.peer.is_ipv6())
        );
        for (traddr, trsvcid) in
            [("10.0.0.1", "0"), ("10.0.0.1", "none"), ("10.0.0", "4420"), ("", "4420")]
        {
            assert_eq!(parse(&entry(traddr, trsvcid)), None, "{traddr} {trsvcid}");
        }
        let rdma = DiscoveryEntry { trtype: 1, ..entry("10.0.0.1", "4420") };
        assert_eq!(parse(&rdma), None);
        for subtype in [1, 3] {
            let service = DiscoveryEntry { subtype, ..entry("10.0.0.1", "4420") };
            assert!(parse(&service).is_some_and(|found| found.is_referral));
        }
        let unknown = DiscoveryEntry { subtype: 4, ..entry("10.0.0.1", "4420") };
        assert_eq!(parse(&unknown), None);
        let nameless = DiscoveryEntry { subnqn: [0; 256], ..entry("10.0.0.1", "4420") };
        assert_eq!(parse(&nameless), None);
    }
}
